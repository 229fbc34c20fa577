"""Moving a repo to another cache, in steps; between `publish` and `leave` lies the commit in the database.

    plan      reads both drives and says what would be done
    stage     copies, or links on one filesystem, into the target's staging, and verifies
    publish   gives what is staged its final name
    leave     removes the source, as far as it was moved
    abandon   throws the copy away, instead of the commit and `leave`

Whatever is killed in between, at least one place has all of it, and each step can be done again. The order is
`{"step", "source": {"path", "uuid"}, "target": {"path", "uuid"}, "folder", "job", "rate_limit"}`.
"""

from collections.abc import Callable
from typing import Any

from cachemgr.hands.copying import Pace, Say
from cachemgr.hands.errors import Trouble, as_trouble
from cachemgr.hands.filling import fill, take_stock
from cachemgr.hands.leaving import abandon, leave
from cachemgr.hands.publishing import publish
from cachemgr.hands.room import free_bytes, full
from cachemgr.hands.root import open_root
from cachemgr.hands.staging import Record, Staging, find_staging, open_staging, trial_folder
from cachemgr.hands.survey import Move, Survey, job_of, open_move, survey_move
from cachemgr.hands.taking import take_standing
from cachemgr.hands.tree import read_tree
from cachemgr.hands.troubles import target_exists
from cachemgr.trial import FULL

Done = dict[str, Any]


def run(order: dict[str, Any], *, say: Say) -> Done:
    name = str(order["step"])
    if name == "abandon":
        return _abandon(order)
    if name not in STEPS:
        raise Trouble(f"A move has no step {name!r}: {', '.join(STEPS)}.", code="bad_order")
    with open_move(order) as move:
        try:
            return STEPS[name](move, say)
        except OSError as error:
            raise _explained(move, error) from error


def _abandon(order: dict[str, Any]) -> Done:
    """The source need not be there, and is not needed unless the copy has its final name already."""
    with open_root(order["target"]) as target, find_staging(target, job=job_of(order)) as staging:
        return abandon(target, staging, source=order.get("source"))


def _plan(move: Move, say: Say) -> Done:
    with trial_folder(move.target, job=move.job) as trial:
        survey = survey_move(move, trial=trial)
    cargo = survey.cargo
    present_bytes = _present_bytes(move, survey)
    return {
        "method": survey.method,
        "layout": cargo.layout,
        "files": len(cargo.parcels),
        "size_bytes": survey.size_bytes,
        "bytes": 0 if survey.standing == "same" else survey.bytes_to_write - present_bytes,
        "present_bytes": present_bytes,
        "target_exists": survey.standing,
        "skipped": cargo.skipped,
        "problems": cargo.problems,
    }


def _present_bytes(move: Move, survey: Survey) -> int:
    with find_staging(move.target, job=move.job) as staging:
        return take_stock(staging, survey) if staging and survey.method == "copy" else 0


def _stage(move: Move, say: Say) -> Done:
    with open_staging(move.target, job=move.job) as staging:
        survey = survey_move(move, trial=staging.descriptor)
        earlier = staging.read_record()
        if earlier and not earlier.is_taken and staging.is_published(earlier):
            return _staged(survey, earlier)
        if survey.standing == "other":
            raise target_exists(move)
        bring, passes = (take_standing, 1) if survey.standing == "same" else (_fill, 2)
        pace = _pace(move, survey, say, passes=passes)
        record = bring(move, survey, staging, pace)
        pace.tell()
        return _staged(survey, record)


def _fill(move: Move, survey: Survey, staging: Staging, pace: Pace) -> Record:
    lacking_bytes = survey.bytes_to_write - take_stock(staging, survey)
    if lacking_bytes > free_bytes(move.target):
        raise full(move.target, lacking_bytes=lacking_bytes)
    try:
        return fill(move, survey, staging, pace)
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise full(move.target, lacking_bytes=pace.lacking_bytes, error=error) from error


def _pace(move: Move, survey: Survey, say: Say, *, passes: int) -> Pace:
    total_bytes = survey.cargo.size_bytes(twins_too=True)
    return Pace(say, stage="copying", total_bytes=total_bytes, rate_limit=move.rate_limit, passes=passes)


def _staged(survey: Survey, record: Record) -> Done:
    return {"method": survey.method, "files": len(record.parcels), "bytes": survey.bytes_to_write}


def _publish(move: Move, say: Say) -> Done:
    with open_staging(move.target, job=move.job) as staging:
        return {"files": len(publish(move, staging).parcels)}


def _leave(move: Move, say: Say) -> Done:
    pace = Pace(say, stage="leaving", total_bytes=_size_bytes(move), rate_limit=None, passes=2)
    with find_staging(move.target, job=move.job) as staging:
        return leave(move, staging, pace)


def _size_bytes(move: Move) -> int:
    """What is about to be removed."""
    if not move.source.has_folder(move.folder):
        return 0
    return sum(entry.size_bytes for entry in read_tree(move.source, move.folder).entries.values())


STEPS: dict[str, Callable[[Move, Say], Done]] = {
    "plan": _plan,
    "stage": _stage,
    "publish": _publish,
    "leave": _leave,
}


def _explained(move: Move, error: OSError) -> Trouble:
    """Where a drive went away, that is the news, not the file at which it was noticed."""
    try:
        move.source.still_there()
        move.target.still_there()
    except Trouble as gone:
        return gone
    if error.errno in FULL:
        return full(move.target, lacking_bytes=0, error=error)
    return as_trouble(error)
