"""`python -m inference.engine`: ties the process to its parent, then opens the socket, then loads the model."""

import argparse
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from inference.engine.lifeline import die_with_parent


def main(arguments: Sequence[str] | None = None) -> None:
    chosen = _read_arguments(arguments)
    # torch and the libraries of the Hub read this when they are imported: an engine never asks the internet.
    os.environ["HF_HUB_OFFLINE"] = "1"
    from inference.engine.backend import EngineSettings
    from inference.engine.server import LOAD_FAILED, leave, serve
    from inference.engine.worker import SerialBackend

    depart = partial(leave, socket_path=chosen.socket)
    die_with_parent(parent_pid=chosen.parent_pid, on_parent_gone=lambda: depart(0))
    settings = EngineSettings(
        model_path=chosen.model_path,
        model_name=chosen.model_name,
        context_length=chosen.context_length,
        dtype=chosen.dtype,
        device=chosen.device,
    )
    backend = SerialBackend(settings, on_load_error=lambda message: depart(LOAD_FAILED, message=message))
    serve(backend, model_name=chosen.model_name, socket_path=chosen.socket)
    depart(0)


def _read_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m inference.engine", description=__doc__)
    parser.add_argument("--socket", type=Path, required=True, metavar="PATH")
    parser.add_argument("--model-path", required=True, metavar="DIR", help="absolute path of a snapshot folder")
    parser.add_argument("--model-name", required=True, metavar="NAME")
    parser.add_argument("--context-length", type=int, metavar="N", help="tokens; never more than the model's own")
    parser.add_argument("--dtype", choices=["auto", "float32", "bfloat16", "float16"], default="auto")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--parent-pid", type=int, metavar="PID", help="who starts the engine, if it wants to be sure")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
