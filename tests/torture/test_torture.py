"""A short torture. The long one is `script/torture`."""

import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]


@pytest.mark.e2e
def test_twenty_kills_and_a_thin_sweep_lose_nothing_and_leave_no_litter() -> None:
    command = [PROJECT / "script" / "torture", "--rounds", "20", "--every", "80", "--kinds", "8"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kills at random moments: 20 stops, 0 violations" in done.stdout
