"""Tokens per second and seconds to the first token, with the model in everybody's memory."""

import statistics
from functools import partial

from bench.serving_bench import OURS, PEERS, Bench, Work, all_servers, interleave
from bench.serving_client import Endpoint, ask_together, tokens_per_second
from bench.serving_sides import Bare, bare_process
from bench.serving_table import Row

BY_HAND = "generate, one by one"
WANTED_SPEED = {1: 1.0, 8: 1.0, 16: 1.1}
WANTED_FIRST = {1: 1.05, 8: 1.05}

Works = dict[tuple[str, int], Work]


def measure_streams(bench: Bench) -> list[Row]:
    with all_servers(bench) as endpoints, bare_process() as bare:
        bare.do(do="load", path=bench.path_of())
        works: Works = {
            (name, streams): partial(_speed, bench, endpoint, streams=streams)
            for streams in WANTED_SPEED
            for name, endpoint in endpoints.items()
        }
        works[BY_HAND, 1] = partial(_bare_speed, bench, bare)
        found = interleave(works, rounds=bench.amount.rounds)
    rows = [
        Row(f"tokens/s, {streams} streams, {peer}", found[OURS, streams], found[peer, streams], at_least=limit)
        for peer in PEERS
        for streams, limit in WANTED_SPEED.items()
    ]
    most = max(WANTED_SPEED)
    return [*rows, Row(f"tokens/s, {most} streams, {BY_HAND}", found[OURS, most], found[BY_HAND, 1], at_least=5.0)]


def _speed(bench: Bench, endpoint: Endpoint, *, streams: int) -> float:
    return tokens_per_second(ask_together(endpoint, bench.chats(streams), tokens=bench.amount.tokens))


def _bare_speed(bench: Bench, bare: Bare) -> float:
    tokens = bench.amount.tokens
    return tokens / bare.do(do="generate", chats=bench.chats(1), tokens=tokens)


def measure_first(bench: Bench) -> list[Row]:
    with all_servers(bench) as endpoints:
        works: Works = {
            (name, streams): partial(_first, bench, endpoint, streams=streams)
            for streams in WANTED_FIRST
            for name, endpoint in endpoints.items()
        }
        found = interleave(works, rounds=bench.amount.first_rounds)
    return [
        Row(f"warm first token s, {streams} streams, {peer}", found[OURS, streams], found[peer, streams], at_most=limit)
        for peer in PEERS
        for streams, limit in WANTED_FIRST.items()
    ]


def _first(bench: Bench, endpoint: Endpoint, *, streams: int) -> float:
    """The median of the streams."""
    answers = ask_together(endpoint, bench.chats(streams), tokens=2)
    return statistics.median(each.first_seconds for each in answers)
