"""What can be done to models, each with its plan: moves, verifications, repairs, downloads and pins."""

from functools import partial
from urllib.parse import urlencode

from cachemgr import services as caches
from cachemgr.layout import repo_folder
from cachemgr.models import Cache, CachedRepo
from cachemgr.monitor import current_snapshot
from cachemgr.space import Verdict
from cachemgr.units import format_bytes
from registry import changes, checkups, downloads, moves, services
from registry.acts import Act, Alternative, Line
from registry.download_plan import DownloadPlan
from registry.models import ModelRegistry

_NAMES = {"primary": "the primary cache", "secondary": "the secondary cache", "custom": "another folder"}
_SHOWN = 3


# Moves


def move_to(location: str, *, path: str = "", query: str = "") -> Act:
    """`query` names the models: for the same act to another place."""
    place = {"cache_location": location, "cache_path": path or None}
    return Act(
        question=f"Move to {_NAMES.get(location, location)}?",
        button="Move",
        icon="drive_file_move",
        explained="What is copied is read back and compared before the old files go. It stays usable meanwhile.",
        plan=partial(_plan_move, place=place),
        do=partial(_move, place=place),
        alternatives=tuple(
            Alternative(words, f"{query}&{urlencode({'to': each})}", is_chosen=each == location)
            for each, words in Cache.Location.choices
        ),
        path=path if location == Cache.Location.CUSTOM else None,
    )


def other_place(model: ModelRegistry) -> str:
    """Where a move goes as long as nobody says where."""
    is_primary = model.cache_location == Cache.Location.PRIMARY
    return Cache.Location.SECONDARY.value if is_primary else Cache.Location.PRIMARY.value


def _plan_move(model: ModelRegistry, *, place: dict[str, str | None]) -> Line:
    target = caches.find_cache(place["cache_location"] or "", path=place["cache_path"])
    source = services.cache_path_of(model)
    way = f"{source} → {target.path}"
    if target.path == source:
        return Line(model=model, way=source, notes=("It is there already: no file has to move.",))
    if model.status in services.WITHOUT_FILES:
        return Line(model=model, way=way, notes=("It has no files yet: it gets another place, and nothing moves.",))
    move = moves.plan_move(model, cache_location=target.location, cache_path=target.path)
    moves.refuse_what_cannot_be(model, move)
    return Line(
        model=model,
        way=way,
        file_count=move.plan.file_count,
        size_bytes=move.plan.size_bytes,
        seconds=move.seconds,
        landing_bytes=move.landing_bytes,
        free_bytes=move.verdict.figures.disk_free_bytes,
        notes=tuple(_about(model, move)),
        problem="" if _has_room(move.verdict) else _shortage(move),
    )


def _about(model: ModelRegistry, move: moves.Move) -> list[str]:
    plan, others = move.plan, [row.model_name for row in move.rows if row.pk != model.pk]
    notes = [move.verdict.message] if move.verdict.warning else []
    if plan.method == "link":
        notes.append("Both are on one drive: the files get another name there, and none is copied.")
    if plan.target_exists == "same":
        notes.append("A whole copy lies there already: it is verified and taken.")
    if others:
        notes.append(f"{_name_some(others)} lie in the same folder and go along.")
    if plan.skipped:
        notes.append(f"{len(plan.skipped)} unfinished downloads stay behind.")
    return [*notes, *plan.problems[:_SHOWN]]


def _has_room(verdict: Verdict) -> bool:
    """As much of the trash as is lacking gives way to a move."""
    return not verdict.is_refusal or verdict.in_trash.freed_bytes >= verdict.shortfall_bytes


def _shortage(move: moves.Move) -> str:
    return caches.shortage(move.verdict, cache=move.target, measured=current_snapshot(move.target)).message


def _move(model: ModelRegistry, *, place: dict[str, str | None]) -> str:
    return changes.describe(model, changes.change(model, place))


# Checks and downloads


def verify() -> Act:
    return Act(
        question="Read all files again?",
        button="Verify",
        icon="fact_check",
        explained="Each file is compared with what it has to be. It stays usable meanwhile; a model with a bad file "
        "is not loaded before it is repaired.",
        plan=_plan_verify,
        do=lambda model: f"All files of {checkups.request_verify(model).title} are read again.",
    )


def _plan_verify(model: ModelRegistry) -> Line:
    checkups.refuse_not_at_hand(model)
    cache = services.cache_of(model)
    repo = CachedRepo.objects.filter(cache=cache, folder=repo_folder(model.hf_path)).first()
    size_bytes, speed = model.size_bytes or 0, cache.read_bytes_per_second
    return Line(
        model=model,
        way=cache.path,
        file_count=repo.file_count if repo else 0,
        size_bytes=size_bytes,
        seconds=size_bytes / speed if speed else None,
        notes=(f"Read last: {checkups.describe_reading(model)}.",),
    )


def repair() -> Act:
    return Act(
        question="Fetch what is bad or missing?",
        button="Repair",
        icon="build",
        explained="Only those files come, of the very commit that lies there. What is whole stays as it is.",
        plan=lambda model: _plan_fetching(model, checkups.plan_repair(model)),
        do=lambda model: f"What is bad or missing of {checkups.request_repair(model).title} is fetched.",
    )


def download() -> Act:
    return Act(
        question="Download now?",
        button="Download",
        icon="download",
        explained="What lies on a drive of ours already is linked or copied from there; the rest comes from the Hub.",
        plan=lambda model: _plan_fetching(model, downloads.plan_download(model)),
        do=lambda model: f"The download of {services.request_download(model).title} is queued.",
    )


def _plan_fetching(model: ModelRegistry, plan: DownloadPlan) -> Line:
    measured, need = current_snapshot(plan.cache), plan.need
    verdict = caches.judge(plan.cache, measured, required_bytes=need.size_bytes, required_files=need.file_count)
    coming = [each.file.name for each in plan.files if each.way != "present"]
    notes = [f"{format_bytes(plan.fetched_bytes)} come from the Hub: {_name_some(coming)}."] if coming else []
    return Line(
        model=model,
        way=plan.cache.path,
        file_count=len(coming),
        size_bytes=need.size_bytes,
        landing_bytes=need.size_bytes,
        free_bytes=verdict.figures.disk_free_bytes,
        notes=tuple(notes or ["Nothing is known to be bad or missing: all files are compared with the Hub's list."]),
    )


def _name_some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


# Pins


def pin(*, is_pinned: bool) -> Act:
    done = "is pinned: it is never unloaded or moved by itself" if is_pinned else "is not pinned any more"

    def do(model: ModelRegistry) -> str:
        changes.change(model, {"pinned": is_pinned})
        return f"{model} {done}."

    return Act(
        question="Pin?" if is_pinned else "Unpin?",
        button="Pin" if is_pinned else "Unpin",
        icon="keep" if is_pinned else "keep_off",
        explained="A pinned model is never unloaded or moved by itself.",
        plan=lambda model: Line(model=model, notes=("Its files stay as they are.",)),
        do=do,
    )
