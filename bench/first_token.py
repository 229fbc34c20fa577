"""How long a cold chat takes to its first token, against a bare Python process that does the same by hand.

    .venv/bin/python -m bench.first_token [--runs 5]

Cold means: the model is on the drive (and in the page cache), and in nobody's memory. The peer is a process that
imports transformers, loads the model with `from_pretrained` and generates one token. Both in one run; the ratio is
what counts. A warm request is shown beside them.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx2

from demo.tiny_model import make_tiny_llama
from tests.e2e.server import Server, running_server
from tests.factories import make_cached_repo

PEER = """
import sys
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], local_files_only=True)
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1], local_files_only=True)
chat = [{"role": "user", "content": "Hello"}]
inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
model.generate(**inputs, max_new_tokens=1)
"""
CHAT = {"model": "tiny", "stream": True, "max_tokens": 1, "messages": [{"role": "user", "content": "Hello"}]}


def first_token_seconds(server: Server) -> float:
    started = time.monotonic()
    with httpx2.stream("POST", f"{server.url}/v1/chat/completions", json=CHAT, timeout=120) as answer:
        for line in answer.iter_lines():
            if '"content"' in line and '"role"' not in line:
                break
    return time.monotonic() - started


def cold_seconds(server: Server) -> float:
    httpx2.post(f"{server.url}/api/models/tiny/unload", timeout=30)
    return first_token_seconds(server)


def peer_seconds(folder: Path) -> float:
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", PEER, str(folder)], check=True, capture_output=True)
    return time.monotonic() - started


def measure(work: Callable[[], float], runs: int) -> list[float]:
    work()  # the first one warms the page cache
    return [work() for _ in range(runs)]


def show(name: str, seconds: list[float]) -> None:
    print(f"{name:<32} {min(seconds):7.2f} {statistics.median(seconds):7.2f} {max(seconds):7.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory(prefix="homelab-bench-") as name:
        folder = Path(name)
        make_tiny_llama(folder / "model")
        files = {path.name: path.read_bytes() for path in (folder / "model").iterdir()}
        make_cached_repo(folder / "fast", "demo/tiny", files=files)
        with running_server(folder, KEEP_ALIVE="-1") as server:
            cold = measure(lambda: cold_seconds(server), runs)
            warm = measure(lambda: first_token_seconds(server), runs)
        peer = measure(lambda: peer_seconds(folder / "model"), runs)
    print(f"{'seconds to the first token':<32} {'min':>7} {'median':>7} {'max':>7}")
    show("cold, through the server", cold)
    show("a bare process, by hand", peer)
    show("warm, through the server", warm)
    print(f"cold / bare process: {statistics.median(cold) / statistics.median(peer):.2f}")


if __name__ == "__main__":
    main()
