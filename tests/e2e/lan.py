"""A LAN on this machine: two network namespaces with a cable between them, and what the second host can see."""

import ctypes
import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import requests
from requests.adapters import HTTPAdapter

from tests.cachemgr.conftest import run_or_skip

BOX, PHONE = "10.77.0.1", "10.77.0.2"
STRANGER = "10.77.0.3"
"""Another address of the phone: whoever is slowed for what it did there slows no other test."""
_CLONE_NEWNET = 0x40000000
_PATIENCE_SECONDS = 120
Result = TypeVar("Result")


@dataclass
class Host:
    """All that it does, it does in its own namespace: a namespace belongs to a thread, and to what a thread starts."""

    name: str
    address: str
    thread: ThreadPoolExecutor

    def do(self, work: Callable[[], Result]) -> Result:
        return self.thread.submit(work).result(_PATIENCE_SECONDS)

    def ask(self, method: str, url: str, **options: Any) -> requests.Response:
        """Reads no body but a refusal's, so that a stream that never ends is no wait; follows no redirect. `source` is
        the address to ask from, where the host has several."""
        return self.do(lambda: _ask(method, url, **options))


class _FromAddress(HTTPAdapter):
    def __init__(self, address: str) -> None:
        self.address = address
        super().__init__()

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, source_address=(self.address, 0), **options)


def _ask(method: str, url: str, *, source: str = "", **options: Any) -> requests.Response:
    options = {"timeout": 30, "allow_redirects": False} | options
    with requests.Session() as session:
        session.trust_env = False
        if source:
            session.mount(url.partition("//")[0] + "//", _FromAddress(source))
        with session.request(method, url, stream=True, **options) as answer:
            if "event-stream" not in answer.headers.get("Content-Type", ""):
                assert answer.content is not None
            return answer


def _enter(namespace: str) -> None:
    descriptor = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {namespace}")
    finally:
        os.close(descriptor)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextmanager
def make_lan() -> Iterator[tuple[Host, Host]]:
    """The box, where the server will run, and the phone. Skips where nobody may make namespaces."""
    with ExitStack() as house:
        hosts = [
            house.enter_context(_make_host(f"hl-{kind}-{os.getpid()}", address=address))
            for kind, address in (("box", BOX), ("phone", PHONE))
        ]
        ends = [f"hl{kind}{os.getpid()}" for kind in ("b", "p")]
        _ip("link", "add", ends[0], "netns", hosts[0].name, "type", "veth", "peer", ends[1], "netns", hosts[1].name)
        for host, end in zip(hosts, ends, strict=True):
            _ip("-n", host.name, "address", "add", f"{host.address}/24", "dev", end)
            _ip("-n", host.name, "link", "set", end, "up")
        _ip("-n", hosts[1].name, "address", "add", f"{STRANGER}/24", "dev", ends[1])
        yield hosts[0], hosts[1]


@contextmanager
def _make_host(name: str, *, address: str) -> Iterator[Host]:
    run_or_skip("ip", "netns", "add", name)
    try:
        _ip("-n", name, "link", "set", "lo", "up")
        with ThreadPoolExecutor(max_workers=1, initializer=_enter, initargs=(name,)) as thread:
            yield Host(name=name, address=address, thread=thread)
    finally:
        _ip("netns", "delete", name)


# nginx, as Debian has it

_NGINX = """
daemon off; error_log {folder}/error.log; pid {folder}/nginx.pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder}; uwsgi_temp_path {folder};
    scgi_temp_path {folder};
    {servers}
}}
"""


@contextmanager
def running_nginx(host: Host, folder: Path, *, servers: str) -> Iterator[None]:
    """`servers` are the server blocks of its configuration."""
    folder.mkdir()
    (folder / "nginx.conf").write_text(_NGINX.format(folder=folder, servers=servers))
    command = ["/usr/sbin/nginx", "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf"]
    process = host.do(lambda: subprocess.Popen(command))
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """For the box's address and for box.lan: the certificate, and its key."""
    certificate, key = folder / "box.crt", folder / "box.key"
    names = f"subjectAltName=IP:{BOX},DNS:box.lan"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]
    command += ["-subj", "/CN=box.lan", "-addext", names, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key
