"""Asks the whole running server what its OpenAPI document allows, and what it does not: `script/fuzz`.

What is looked for: answers of 5xx but for a stated reason, HTML to clients of the API, and answers that the document
does not describe.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi import checks

from demo.tiny_model import make_tiny_llama
from tests.e2e.server import PROJECT, Server, run_command, running_server, wait_for
from tests.factories import loadable_files, make_cached_repo

STATED_REASONS = {
    "cache_unavailable": 503,
    "database_unavailable": 503,
    "overloaded": 503,
    "model_failed": 503,
    "insufficient_memory": 503,
    "insufficient_space": 507,
    "hub_unreachable": 502,
}
"""Codes of answers of 5xx that are no mistakes: something that the request needs is away, or full."""
SCOPES = ("admin", "inference")
WHO = ("owner", *SCOPES, "nobody")
SERVED = ["tiny"]  # an engine answers for it, so nothing moves or removes it
SHELF = ["shelf", "book"]
OTHER_METHODS = ("PUT", "TRACE", "OPTIONS", "HEAD", "PROPFIND", "PATCH", "DELETE", "POST", "GET")
CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
_EXAMPLES_PER_ROUND = 15
_KNOWN_SHARE = 0.6
_NEVER_END = r"/events$"
_PROBLEMS_SHOWN = 30


@dataclass
class Tally:
    """`problems` by what kind they are of, each told once with the request that made it."""

    requests: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    server_errors: int = 0
    pages: int = 0
    violations: int = 0
    problems: dict[str, str] = field(default_factory=dict)

    def note(self, kind: str, *, request: str) -> None:
        self.problems.setdefault(kind, request)

    def describe(self) -> str:
        statuses = ", ".join(f"{status}: {count}" for status, count in sorted(self.statuses.items()))
        reasons = ", ".join(f"{code}: {count}" for code, count in self.reasons.most_common()) or "none"
        figures = (
            f"{self.requests} requests; {self.server_errors} answers of 5xx without a stated reason, "
            f"{self.pages} HTML answers to clients of the API, {self.violations} answers that the document does not "
            f"describe.\n  by status: {statuses}\n  5xx with a stated reason: {reasons}"
        )
        shown = list(self.problems.items())[:_PROBLEMS_SHOWN]
        return "\n".join([figures, *(f"- {kind}\n    {request}" for kind, request in shown)])


class Fuzzer:
    def __init__(self, url: str, *, seed_number: int, key: str = "") -> None:
        self.url = url
        self.tally = Tally()
        self.session = requests.Session()
        if key:
            self.session.headers["Authorization"] = f"Bearer {key}"
        self.random = random.Random(seed_number)
        document = schemathesis.openapi.from_path(PROJECT / "docs" / "openapi.yaml")
        self.operations = [each.ok() for each in document.exclude(path_regex=_NEVER_END).get_all_operations()]

    def run(self, *, count: int, seconds: float) -> Tally:
        """Rounds over all operations, until so many requests were made, or so much time went by."""
        deadline = time.monotonic() + seconds
        for operation, mode in self._rounds():
            if self.tally.requests >= count or time.monotonic() > deadline:
                break
            self._ask_much(operation, mode)
            self._ask_otherwise(operation)
        return self.tally

    def _rounds(self) -> Iterator[tuple[Any, GenerationMode]]:
        while True:
            turns = [(each, mode) for each in self.operations for mode in GenerationMode]
            self.random.shuffle(turns)
            yield from turns

    def _ask_much(self, operation: Any, mode: GenerationMode) -> None:
        @settings(
            max_examples=_EXAMPLES_PER_ROUND,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @seed(self.random.getrandbits(64))
        @given(operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            self._ask(case)

        try:
            ask()
        except Unsatisfiable:  # nothing can be wrong about what has no parameters
            return

    def _ask(self, case: Any) -> None:
        if self.random.random() < _KNOWN_SHARE:
            self._ask_about_what_is_there(case)
        accept = self.random.choice(["*/*", "application/json"])
        response = case.call(base_url=self.url, session=self.session, headers={"Accept": accept}, timeout=60)
        self._judge(response, request=case.as_curl_command(base_url=self.url))
        try:
            case.validate_response(response, checks=CHECKS)
        except FailureGroup as group:
            self.tally.violations += 1
            for failure in group.exceptions:
                kind = f"{case.method} {case.operation.path}: {failure.title}: {str(failure.message)[:400]}"
                self.tally.note(
                    kind, request=f"{case.as_curl_command(base_url=self.url)} -> {response.content[:300]!r}"
                )

    def _ask_about_what_is_there(self, case: Any) -> None:
        path, parameters = case.operation.path, case.path_parameters or {}
        if "model_name" in parameters:
            parameters["model_name"] = self.random.choice(SERVED if path.endswith(("/load", "/stats")) else SHELF)
        if "model" in parameters:
            parameters["model"] = self.random.choice([*SERVED, *SHELF])
        if "id" in parameters:
            parameters["id"] = self.random.randint(1, 9)
        if path.startswith("/v1/") and isinstance(case.body, dict) and "model" in case.body:
            case.body |= {"model": self.random.choice(SERVED), "max_tokens": self.random.randint(1, 8)}

    def _ask_otherwise(self, operation: Any) -> None:
        """With a method that is not documented there, or a body that is none."""
        method = self.random.choice(OTHER_METHODS)
        path = operation.path.replace("{model_name}", self.random.choice(SHELF)).replace("{id}", "1")
        body = self.random.choice([b"", b"{", b"\xff", b"[]", b'{"a": NaN}', b"a=b", b"[" * 70 + b"]" * 70])
        kind = self.random.choice(
            ["application/json", "text/plain", "multipart/form-data", "application/x-www-form-urlencoded"]
        )
        if method in {"DELETE", "POST", "PATCH"} and not body:
            return
        response = self.session.request(method, self.url + path, data=body, headers={"Content-Type": kind}, timeout=60)
        self._judge(response, request=f"{method} {path} {kind} {body!r}")

    def _judge(self, response: Any, *, request: str) -> None:
        tally = self.tally
        tally.requests += 1
        tally.statuses[response.status_code] += 1
        kind = _content_type(response)
        if kind.startswith("text/html"):
            tally.pages += 1
            tally.note(f"HTML, {response.status_code}", request=request)
        if response.status_code >= 500:
            code = _code_of(response)
            if STATED_REASONS.get(code) == response.status_code:
                tally.reasons[code] += 1
            else:
                tally.server_errors += 1
                tally.note(f"{response.status_code} {code or response.content[:200]!r}", request=request)


def _content_type(response: Any) -> str:
    value = response.headers.get("content-type", "")
    return value[0] if isinstance(value, list) else value


def _code_of(response: Any) -> str:
    try:
        return str(response.json()["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return ""


def fill(server: Server, folder: Path) -> None:
    """Models of which something can be said: one that can be asked, one with files that say nothing, one without."""
    make_tiny_llama(folder / "tiny")
    files = {path.name: path.read_bytes() for path in (folder / "tiny").iterdir()}
    make_cached_repo(folder / "fast", "demo/tiny", files=files)
    make_cached_repo(folder / "fast", "org/shelf", files=loadable_files())
    requests.post(f"{server.url}/api/cache/refresh", timeout=30)
    wait_for(lambda: len(server.get("/api/models")[1]) == 2)
    wish = {"model_name": "book", "hf_path": "org/book", "cache_location": "secondary", "estimated_size_mb": 1}
    assert requests.post(f"{server.url}/api/models", json=wish, timeout=30).status_code == 201


def tracebacks_of(server: Server) -> int:
    """In the log of its web process, which outlives it."""
    return (
        (server.data_dir / "logs" / "web.log").read_text(encoding="utf-8").count("\nTraceback (most recent call last)")
    )


def make_key(folder: Path, *, port: int, scope: str) -> str:
    """As its owner does it, in the shell."""
    made = run_command("apikey", "create", "fuzz", "--scope", scope, "--json", folder=folder, port=port)
    return str(json.loads(made.stdout)["key"])


def fuzz(folder: Path, *, count: int, seconds: float, seed_number: int, who: str = "owner") -> tuple[Tally, Server]:
    """Of a server of its own. It is stopped at the end; what it said in the terminal is left."""
    with running_server(folder) as server:
        fill(server, folder)
    strict = {} if who == "owner" else {"LOCAL_TRUST": "off", "REQUESTS_PER_MINUTE": "1000000"}
    with running_server(folder, KEEP_ALIVE="-1", **strict) as server:
        key = make_key(folder, port=server.port, scope=who) if who in SCOPES else ""
        return Fuzzer(server.url, seed_number=seed_number, key=key).run(count=count, seconds=seconds), server


def main() -> int:
    parser = argparse.ArgumentParser(prog="script/fuzz", description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000, help="how many to make")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6)
    parser.add_argument(
        "--as", dest="who", choices=WHO, default="owner", help="this machine's owner, a key of a scope, or nobody"
    )
    options = parser.parse_args()
    print(f"seed {options.seed}, as {options.who}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        tally, server = fuzz(
            Path(folder), count=options.requests, seconds=float("inf"), seed_number=options.seed, who=options.who
        )
        traces = tracebacks_of(server)
    print(tally.describe(), f"{traces} tracebacks in the server's log.", sep="\n")
    return 1 if tally.problems or traces else 0


if __name__ == "__main__":
    sys.exit(main())
