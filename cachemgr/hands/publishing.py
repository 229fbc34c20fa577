"""Giving what was staged its final name, by one rename."""

import os

from cachemgr.hands.durable import settle, settle_tree
from cachemgr.hands.layouting import SNAPSHOTS, Known
from cachemgr.hands.manifests import add_known, write_known
from cachemgr.hands.staging import Record, Staging
from cachemgr.hands.survey import Move
from cachemgr.hands.tree import read_tree
from cachemgr.hands.troubles import not_staged, target_exists


def publish(move: Move, staging: Staging) -> Record:
    """Safe to repeat. Raises Trouble (target_exists, not_staged, cache_unavailable), OSError."""
    record = staging.read_record()
    if record is None:
        raise not_staged(move, move.folder)
    is_there = record.is_taken or staging.is_published(record)
    _refuse_gaps(move, record, path=move.folder if is_there else staging.repo(move.folder))
    _write_digests(move, record)
    if not is_there:
        _rename(move, staging)
    settle(move.target.descriptor)
    settle(staging.descriptor)
    move.target.still_there()
    return record


def _write_digests(move: Move, record: Record) -> None:
    """Of the copies that it brings. Other names that are listed stay where the folder was there before."""
    write = add_known if record.is_taken else write_known
    write(move.target, record.folder, _digests(record))


def _digests(record: Record) -> Known:
    return {
        parcel.path.removeprefix(SNAPSHOTS): (parcel.digest, parcel.size_bytes)
        for parcel in record.parcels
        if parcel.path.startswith(SNAPSHOTS) and parcel.digest
    }


def _rename(move: Move, staging: Staging) -> None:
    settle_tree(staging.descriptor, move.folder)
    settle(staging.descriptor)
    move.target.still_there()
    if move.target.look_at(move.folder) is not None:
        raise target_exists(move)
    os.rename(move.folder, move.folder, src_dir_fd=staging.descriptor, dst_dir_fd=move.target.descriptor)


def _refuse_gaps(move: Move, record: Record, *, path: str) -> None:
    lacking = record.lacks(read_tree(move.target, path)) if move.target.has_folder(path) else [path]
    if lacking:
        raise not_staged(move, lacking[0])
