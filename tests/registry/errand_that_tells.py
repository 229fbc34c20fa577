"""An errand that does nothing but tell what it was given: its order, and when it gets a drive."""

import json
import os
import subprocess
import sys

order = json.loads(sys.stdin.readline())
told = subprocess.run(["ionice", "-p", str(os.getpid())], capture_output=True, text=True, check=True)
sys.stdout.write(json.dumps({"done": {"order": order, "io": told.stdout.split(":")[0].strip()}}) + "\n")
