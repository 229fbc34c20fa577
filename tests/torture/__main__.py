"""`script/torture`: how often was work stopped, what was lost, and what litter was left?"""

import argparse
import logging
import sys
import time

from tests.torture.site import make_site


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200, help="kills at random moments")
    parser.add_argument("--every", type=int, default=1, help="the sweep takes one point in so many; 0 skips it")
    parser.add_argument("--kinds", type=int, default=1, help="and one kind of call of a step in so many")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6)
    options = parser.parse_args()
    with make_site() as site:
        import django

        django.setup()
        logging.disable(logging.ERROR)
        return _torture(site, options)


def _torture(site, options) -> int:
    from tests.torture.beginnings import Beginnings
    from tests.torture.rounds import kill_at_random, sweep

    print(f"seed {options.seed}", flush=True)
    beginnings, count = Beginnings(site), 0
    kinds = slice(options.seed % options.kinds, None, options.kinds)
    if options.rounds:
        tally = kill_at_random(beginnings, rounds=options.rounds, seed=options.seed)
        count += _show("kills at random moments", tally)
    for name, tally in sweep(beginnings, every=options.every, kinds=kinds) if options.every else ():
        count += _show(name, tally)
    print(f"Violations: {count}." if count else "Nothing was lost, and no litter was left.")
    return 1 if count else 0


def _show(name: str, tally) -> int:
    print(f"{name}: {tally.stops} stops, {len(tally.violations)} violations", *tally.violations, sep="\n  ", flush=True)
    return len(tally.violations)


if __name__ == "__main__":
    sys.exit(main())
