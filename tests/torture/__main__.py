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
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6)
    options = parser.parse_args()
    with make_site() as site:
        import django

        django.setup()
        logging.disable(logging.ERROR)
        return _torture(site, options)


def _torture(site, options) -> int:
    from tests.torture.rounds import kill_at_random, sweep
    from tests.torture.work import finish, first_start, fork, recover

    finish(fork(first_start))
    site.add_revision()
    finish(fork(recover))
    print(f"seed {options.seed}", flush=True)
    found = []
    if options.rounds:
        tally = kill_at_random(site, rounds=options.rounds, seed=options.seed)
        print(f"kills at random moments: {tally.stops}, violations: {len(tally.violations)}", flush=True)
        found += tally.violations
    if options.every:
        stops = 0
        for name, tally in sweep(site, every=options.every):
            stops += tally.stops
            found += tally.violations
            print(f"{name}: {tally.stops} stops, {len(tally.violations)} violations", flush=True)
        print(f"stops at system calls: {stops}", flush=True)
    print("\n".join(found) or "Nothing was lost, and no litter was left.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
