"""The engine's words: on the command line, or in the order that a standby gets."""

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from cachemgr.digests import DIGEST
from inference.engine.backend import DEFAULT_PARALLEL_REQUESTS, EngineSettings
from inference.engine.dtypes import DTYPES

_DEVICE = re.compile(r"auto|cpu|cuda(:\d{1,3})?|balanced")


class BadArguments(Exception):
    """The message is a sentence."""


@dataclass(frozen=True)
class Order:
    """`memory_limit`: so many bytes may be written to, on top of which a request for memory fails. None: no limit."""

    socket_path: Path
    settings: EngineSettings
    parent_pid: int | None = None
    memory_limit: int | None = None


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadArguments(f"The engine does not understand its arguments: {message}.")


def read_order(arguments: Sequence[str]) -> Order:
    """Raises BadArguments."""
    chosen = vars(_make_parser().parse_args(arguments))
    own = {name: chosen.pop(name) for name in ("parent_pid", "memory_limit")}
    return Order(chosen.pop("socket"), settings=EngineSettings(**chosen), **own)


def _make_parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m inference.engine", description="Serves one model on a unix socket.")
    parser.add_argument("--socket", type=Path, required=True, metavar="PATH")
    parser.add_argument("--model-path", required=True, metavar="DIR", help="absolute path of a snapshot folder")
    parser.add_argument("--model-name", required=True, metavar="NAME")
    parser.add_argument("--context-length", type=_positive, metavar="N", help="tokens; never more than the model's own")
    parser.add_argument(
        "--parallel-requests", type=_positive, default=DEFAULT_PARALLEL_REQUESTS, metavar="N", help="in one batch"
    )
    parser.add_argument("--kv-tokens", type=_positive, metavar="N", help="of all requests together, in the paged cache")
    parser.add_argument("--dtype", choices=["auto", *DTYPES], default="auto")
    parser.add_argument("--device", type=_device, default="auto", metavar="auto|cpu|cuda|cuda:N|balanced")
    parser.add_argument("--quantization", choices=["none", "8bit", "4bit"], default="none", help="on a GPU only")
    parser.add_argument("--backend", choices=["auto", "generate"], default="auto", help="generate: never in batches")
    parser.add_argument("--remote-code", type=_code, default={}, metavar="JSON", help="files that may run, with hashes")
    parser.add_argument("--parent-pid", type=_positive, metavar="PID", help="who starts the engine, to be sure")
    parser.add_argument("--memory-limit", type=_positive, metavar="BYTES", help="more than that it never writes to")
    parser.epilog = "Or: --standby alone, to wait for such words on stdin, a unix socket."
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def _device(text: str) -> str:
    if not _DEVICE.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is none of auto, cpu, cuda, cuda:N, balanced")
    return text


def _code(text: str) -> dict[str, str]:
    try:
        files = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError("it is no JSON") from error
    if not isinstance(files, dict) or not all(
        isinstance(each, str) and DIGEST.fullmatch(each) for each in files.values()
    ):
        raise argparse.ArgumentTypeError("it is no object of names and hashes")
    return dict(files)
