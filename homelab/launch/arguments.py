"""The command line. Needs the standard library only, so that `script/server --help` works before the set-up."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Arguments:
    """None means: as the settings say."""

    demo: bool
    port: "int | None"
    host: "str | None"
    data_dir: "Path | None"


def parse(words: "Sequence[str]") -> Arguments:
    parser = _make_parser()
    given = parser.parse_args(words)
    if given.demo and given.data_dir:
        parser.error("--demo makes a data folder of its own and removes it at the end; leave --data-dir out.")
    data_dir = (given.called_from / given.data_dir.expanduser()).resolve() if given.data_dir else None
    return Arguments(demo=given.demo, port=given.port, host=given.host, data_dir=data_dir)


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="script/server",
        description="Starts the whole server in the foreground: web, workers and broker. Ctrl-C stops it.",
        epilog="Settings come from .env, the environment wins over it, and these options win over both.",
    )
    parser.add_argument(
        "--demo",
        action="store_true",
        help="try everything with two tiny models and a small hub on this machine; all of it is removed at the end",
    )
    parser.add_argument("--port", type=_port, metavar="N", help="the web port (PORT, 8000)")
    parser.add_argument("--host", metavar="H", help="the address to listen on (HOST, 127.0.0.1)")
    parser.add_argument(
        "--data-dir", type=Path, metavar="D", help="the folder for database and logs (DATA_DIR, ./data)"
    )
    parser.add_argument("--called-from", type=Path, default=Path.cwd(), help=argparse.SUPPRESS)
    return parser


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is no port; a number from 1 to 65535 is wanted")
    return int(text)


if __name__ == "__main__":
    parse(sys.argv[1:])
