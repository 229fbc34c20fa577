"""Kill rounds, and the sweep: work is stopped somewhere, recovered, and looked at."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count, product

from tests.torture.beginnings import Beginnings
from tests.torture.invariants import losses, overbooked, violations
from tests.torture.site import NOWHERE, Site
from tests.torture.work import (
    Point,
    Work,
    download,
    download_unless_asked,
    finish,
    fork,
    move_to,
    recover,
    remove_and_restore,
    repair,
    stopped_at,
)

CALLS = (
    "write,pwrite64",
    "fsync,fdatasync",
    "rename,renameat,renameat2",
    "unlink,unlinkat,rmdir",
    "link,linkat",
    "symlink,symlinkat",
    "mkdir,mkdirat",
)


@dataclass(frozen=True)
class Trial:
    """One kind of work, from one place, and the steps of its children in which it is stopped. `is_whole`: it is there
    from the beginning, and at every instant."""

    name: str
    start: str
    steps: tuple[str, ...]
    work: Callable[[Site], Work]
    is_damaged: bool = False

    @property
    def is_whole(self) -> bool:
        return not self.is_damaged and self.start != NOWHERE

    def begin(self, site: Site) -> Work:
        if self.is_damaged:
            flip_a_byte(site)
        return self.work(site)


_MOVE = ("stage", "publish", "leave")
TRIALS = (
    Trial("download", NOWHERE, ("registry.fetch",), lambda _: download),
    Trial("move to the other filesystem", "primary", _MOVE, lambda site: move_to(site, "secondary")),
    Trial("move back", "secondary", _MOVE, lambda site: move_to(site, "primary")),
    Trial("move on one filesystem", "primary", _MOVE, lambda site: move_to(site, "custom")),
    Trial("removal and undo", "primary", ("put", "restore"), lambda _: remove_and_restore),
    Trial("repair", "primary", ("registry.fetch",), lambda _: repair, is_damaged=True),
)


@dataclass
class Tally:
    """`violations` are sentences, each with where it happened."""

    stops: int = 0
    violations: list[str] = field(default_factory=list)

    def add(self, where: str, found: list[str]) -> None:
        self.stops += 1
        self.violations += [f"{where}: {each}" for each in found]


def flip_a_byte(site: Site) -> None:
    with open(site.weights, "r+b") as file:
        file.seek(1_000_000)
        byte = file.read(1)
        file.seek(1_000_000)
        file.write(bytes([byte[0] ^ 1]))


def kill_at_random(beginnings: Beginnings, *, rounds: int, seed: int) -> Tally:
    """Each round kills the whole process group of some work at a random moment of it."""
    site, luck, tally = beginnings.site, random.Random(seed), Tally()
    canaries = site.canaries
    longest: dict[str, float] = {}
    for number in range(rounds):
        trial = luck.choice(TRIALS)
        if trial.name not in longest:
            beginnings.restore(trial.start)
            longest[trial.name] = 1.05 * _seconds_of(trial.begin(site))
        beginnings.restore(trial.start)
        after = luck.uniform(0.05, longest[trial.name])
        pid = fork(trial.begin(site))
        time.sleep(after)
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        tally.add(f"round {number}, {trial.name}, killed after {after:.3f} s", _look(site, trial, canaries))
    return tally


def _seconds_of(work: Work) -> float:
    started = time.monotonic()
    finish(fork(work))
    return time.monotonic() - started


def _look(site: Site, trial: Trial, canaries: dict[str, str]) -> list[str]:
    """At once, and after the recovery."""
    contents = site.contents_from(trial.start)
    at_once = [*overbooked(site), *(losses(site, contents) if trial.is_whole else ())]
    finish(fork(recover))
    if trial.is_damaged:
        finish(fork(repair))
    if trial.start == NOWHERE:
        finish(fork(download_unless_asked))
    later = violations(site, contents, canaries=canaries)
    return [*(f"before the recovery: {each}" for each in at_once), *later]


KINDS = [(trial, step, call) for trial in TRIALS for step, call in product(trial.steps, CALLS)]


def sweep(beginnings: Beginnings, *, every: int = 1, kinds: slice = slice(None)) -> Iterator[tuple[str, Tally]]:
    """Stops work at every write, fsync, rename, unlink, link and mkdir of each step, from the same beginning each time.
    `every` takes one call in so many, `kinds` some of KINDS."""
    site = beginnings.site
    canaries, flag = site.canaries, site.folder / "stopped"
    for trial, step, call in KINDS[kinds]:
        tally = Tally()
        for number in count(1, every):
            beginnings.restore(trial.start)
            flag.unlink(missing_ok=True)
            point = Point(step, call, number)
            finish(fork(stopped_at(point, trial.begin(site), flag=flag)))
            if not flag.exists():
                break
            tally.add(f"{trial.name}, {point}", _look(site, trial, canaries))
        yield f"{trial.name}, {step}, {call}", tally
