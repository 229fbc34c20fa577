"""An errand that says what its order has, a line each 0.3 s, and then nothing more, or that it is done."""

import json
import sys
import time


def say(**line: object) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


order = json.loads(sys.stdin.readline())
for number in range(order["lines"]):
    say(stage="counting", number=number)
    time.sleep(0.3)
if order["ends"]:
    say(done={"said": order["lines"]})
sys.stdin.readline()
