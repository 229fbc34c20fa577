"""What a load costs: seconds to the first token of a cold model and of another model, and memory.

Everywhere the weights and the libraries are in the page cache.
"""

import time
from collections.abc import Callable
from functools import partial

from bench.serving_bench import MODEL, ON, OURS, PEER, PEERS, SAME_BLOCKS, Bench, interleave, peer_options
from bench.serving_client import Endpoint, ask_together
from bench.serving_model import NAMES
from bench.serving_sides import Bare, PeakMemory, bare_process, peer_server, unload, wait_for_standby, weigh
from bench.serving_table import Row
from tests.e2e.server import Server

MB = 10**6
STANDBY, BY_HAND, LEFT = "with a standby", "from_pretrained", "left"
WANTED_COLD = {OURS: 0.5, STANDBY: 0.3}
STREAMS = 16
LEFT_MB = 8.0
"""After an unload: what the allocator of a Python process may keep."""


def measure_cold(bench: Bench) -> list[Row]:
    """A request after an unload, against the process start and the first request of a peer."""
    with bench.our_server() as server, bench.our_server(standby=ON) as ready:
        works = {OURS: partial(_cold, bench, server), STANDBY: partial(_cold_standby, bench, ready)}
        works |= {peer: partial(_cold_peer, bench, options) for peer, options in peer_options(server).items()}
        found = interleave(works, rounds=bench.amount.starts)
    return [
        Row(f"cold first token s, {ours}, {peer}", found[ours], found[peer], at_most=limit)
        for ours, limit in WANTED_COLD.items()
        for peer in PEERS
    ]


def _cold(bench: Bench, server: Server) -> float:
    unload(server, MODEL)
    started = time.monotonic()
    return bench.ask(Endpoint(server.url, MODEL)) - started


def _cold_standby(bench: Bench, server: Server) -> float:
    wait_for_standby(server)
    seconds = _cold(bench, server)
    wait_for_standby(server)
    return seconds


def _cold_peer(bench: Bench, options: tuple[str, ...]) -> float:
    started = time.monotonic()
    with peer_server(*options) as peer:
        peer.wait_until_up()
        return bench.ask(Endpoint(peer.url, bench.path_of())) - started


def measure_switch(bench: Bench) -> list[Row]:
    """Between two models, with memory for one. By hand that is one process, which has everything imported."""
    with bench.our_server(standby=ON) as server, bare_process() as bare:
        works = {OURS: _make_switch(bench, server), BY_HAND: _make_bare_switch(bench, bare)}
        found = interleave(works, rounds=2 * bench.amount.starts)
    return [Row(f"switch s, {STANDBY}, {BY_HAND} and a token", found[OURS], found[BY_HAND], at_most=1.2)]


def _make_switch(bench: Bench, server: Server) -> Callable[[], float]:
    names = list(NAMES)

    def switch() -> float:
        wait_for_standby(server)
        names.reverse()
        started = time.monotonic()
        unload(server, names[1])
        seconds = bench.ask(Endpoint(server.url, names[0])) - started
        wait_for_standby(server)
        return seconds

    return switch


def _make_bare_switch(bench: Bench, bare: Bare) -> Callable[[], float]:
    names = list(NAMES)

    def switch() -> float:
        names.reverse()
        return bare.do(do="switch", path=bench.path_of(names[0]), chat=bench.chats(1)[0])

    return switch


def measure_memory(bench: Bench) -> list[Row]:
    """At the peak all processes of our server count, workers and broker too; after an unload, the web process alone."""
    with bench.our_server() as server:
        options_of_peers = peer_options(server)
        unload(server, MODEL)
        web = server.wait_for_program("web").pid
        before = weigh(web)
        works = {
            OURS: partial(_peak, bench, server.process.pid, Endpoint(server.url, MODEL)),
            LEFT: partial(_left, server, web, before=before),
        }
        works |= {peer: partial(_peak_of_peer, bench, options) for peer, options in options_of_peers.items()}
        found = interleave(works, rounds=1, warm_up=0)
    return [
        Row(f"peak memory MB, {STREAMS} streams, {PEER}", found[OURS], found[PEER], at_most=0.5),
        Row(f"peak memory MB, {STREAMS} streams, {SAME_BLOCKS}", found[OURS], found[SAME_BLOCKS]),
        Row("memory MB that an unload leaves in the web process", found[LEFT], at_most=LEFT_MB),
    ]


def _left(server: Server, web: int, *, before: int) -> float:
    unload(server, MODEL)
    return (weigh(web) - before) / MB


def _peak(bench: Bench, pid: int, endpoint: Endpoint) -> float:
    with PeakMemory(pid) as peak:
        bench.ask(endpoint)
        ask_together(endpoint, bench.chats(STREAMS), tokens=bench.amount.tokens)
    return peak.bytes / MB


def _peak_of_peer(bench: Bench, options: tuple[str, ...]) -> float:
    with peer_server(*options) as peer:
        peer.wait_until_up()
        return _peak(bench, peer.process.pid, Endpoint(peer.url, bench.path_of()))
