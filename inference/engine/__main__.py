"""`python -m inference.engine`: ties the process to its parent, gives up what it does not need, opens the socket, and
loads the model.

With `--standby` it loads nothing yet: it imports the libraries, and waits for its order.
"""

import os
import socket
import sys
from collections.abc import Callable
from concurrent.futures import Future

from inference.engine.arguments import BadArguments, Order, read_order
from inference.engine.backend import EngineSettings
from inference.engine.confine import Confinement, limit_memory
from inference.engine.endings import USAGE, Ending, before_leaving, leave
from inference.engine.lifeline import die_with_parent, watch_stdin
from inference.engine.standby import receive_order

_SWITCH_SECONDS = 0.0005

# How long a thread of OpenMP waits for its siblings before it sleeps: some 200 microseconds, not 10 milliseconds.
# Measured on two processors, with 16 streams, and with two engines at once: 4000 spins give 204 tokens a second,
# and 63 to each of the two; 1000 give 173, and 73; 20,000 give 198, and 38; as many as are usual give 197, and 13.
_SPINS = "4000"


def main() -> None:
    try:
        _run(None if sys.argv[1:] == ["--standby"] else read_order(sys.argv[1:]))
    except BadArguments as error:
        leave(Ending(USAGE, str(error)))
    except Ending as ending:
        leave(ending)
    leave()


def _run(order: Order | None) -> None:
    """Returns when it has been told to end. `order` None: a standby."""
    if not die_with_parent(parent_pid=order.parent_pid if order else None):
        return
    confinement = Confinement()
    confinement.shut_in()
    # The libraries read these when they are imported. An engine never asks the internet.
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)
    # The model thread lets go of the interpreter in each of a step's thousand operations, and waits to get it back.
    sys.setswitchinterval(_SWITCH_SECONDS)
    from inference.engine.server import serve
    from inference.engine.stages import ModelLoad
    from inference.engine.worker import ModelThread

    ordered: Future[EngineSettings] = Future()
    load = ModelLoad(ordered.result, is_standby=order is None)
    model = ModelThread(load, on_ending=leave)
    if order is None:
        model.start()
        order = receive_order(sys.stdin.fileno())
        if order is None:
            return
        listener = _open(order, confinement, settle=load.warmed.wait)
    else:
        listener = _open(order, confinement)
        model.start()
    watch_stdin(on_end=leave)
    ordered.set_result(order.settings)
    serve(model, listener=listener, model_name=order.settings.model_name, exposures=confinement.exposures)


def _open(order: Order, confinement: Confinement, *, settle: Callable[[], object] | None = None) -> socket.socket:
    """The socket lies in a folder of the server's, so it is there before the engine becomes somebody else."""
    from inference.engine.server import bind

    listener = bind(order.socket_path)
    before_leaving(order.socket_path.unlink)
    confinement.become(order.settings.model_path, device=order.settings.device, settle=settle)
    die_with_parent(parent_pid=None)
    if order.memory_limit:
        limit_memory(order.memory_limit)
    return listener


if __name__ == "__main__":
    main()
