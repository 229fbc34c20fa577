"""What the measurements of bench.serving share: how much, on whom, and in which order."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TypeVar

from bench.serving_client import Chat, Endpoint, ask_together, make_chat
from bench.serving_model import NAMES, PAGE_TOKENS, lend_models
from bench.serving_sides import count_kv_tokens, our_server, peer_server
from tests.e2e.server import Server

MODEL = NAMES[0]
OURS = "ours"
PEER, SAME_BLOCKS = "transformers serve", "serve, our KV blocks"
PEERS = (PEER, SAME_BLOCKS)
USUAL_BLOCKS = 64
"""For the peer, where our engine names no size of its KV cache."""
OFF, ON = "off", "on"

Key = TypeVar("Key")
Work = Callable[[], float]


@dataclass(frozen=True)
class Amount:
    """`tokens` of each stream; how often streams, first tokens and starts are measured."""

    tokens: int = 96
    rounds: int = 5
    first_rounds: int = 15
    starts: int = 3


QUICK = Amount(tokens=16, rounds=2, first_rounds=3, starts=1)


@dataclass(frozen=True)
class Bench:
    """`folder` has what our servers with a standby and without one have; `snapshots` are the models by name."""

    folder: Path
    snapshots: Mapping[str, Path]
    amount: Amount
    numbers: Iterator[int] = field(default_factory=count)

    @classmethod
    def prepare(cls, folder: Path, *, amount: Amount) -> "Bench":
        lend_models(folder / ON / "fast")
        return cls(folder, lend_models(folder / OFF / "fast"), amount)

    @contextmanager
    def our_server(self, *, standby: str = OFF) -> Iterator[Server]:
        """Its first model has been loaded and asked."""
        with our_server(self.folder / standby, models=NAMES, ENGINE_STANDBY=standby) as server:
            self.ask(Endpoint(server.url, MODEL))
            yield server

    def path_of(self, model: str = MODEL) -> str:
        """The name that the peers know it by."""
        return str(self.snapshots[model])

    def chats(self, streams: int) -> list[Chat]:
        """Never the same twice."""
        return [make_chat(next(self.numbers)) for _ in range(streams)]

    def ask(self, endpoint: Endpoint) -> float:
        """One token. Answers when it came, on the clock of `time.monotonic`."""
        return ask_together(endpoint, self.chats(1), tokens=1)[0].first_at


def interleave(works: Mapping[Key, Work], *, rounds: int, warm_up: int = 1) -> dict[Key, list[float]]:
    """What each of the works answered in each round, every other round backwards. The first rounds do not count."""
    found: dict[Key, list[float]] = {key: [] for key in works}
    for number in range(warm_up + rounds):
        for key in list(works)[:: -1 if number % 2 else 1]:
            figure = works[key]()
            if number >= warm_up:
                found[key].append(figure)
        print(f"  round {number + 1} of {warm_up + rounds}", file=sys.stderr, flush=True)
    return found


def peer_options(server: Server) -> dict[str, tuple[str, ...]]:
    """The options of both peers. Our server has a model loaded."""
    tokens = count_kv_tokens(server)
    blocks = -(-tokens // PAGE_TOKENS) if tokens else USUAL_BLOCKS
    return {PEER: (), SAME_BLOCKS: ("--cb-num-blocks", str(blocks))}


@contextmanager
def all_servers(bench: Bench) -> Iterator[dict[str, Endpoint]]:
    """All up, and each has the model loaded."""
    with ExitStack() as stack:
        server = stack.enter_context(bench.our_server())
        endpoints = {OURS: Endpoint(server.url, MODEL)}
        for name, options in peer_options(server).items():
            peer = stack.enter_context(peer_server(*options))
            peer.wait_until_up()
            endpoints[name] = Endpoint(peer.url, bench.path_of())
            bench.ask(endpoints[name])
        yield endpoints
