"""A small model hub on loopback, in the protocol of the Hugging Face Hub: `python -m demo.hub --repos DIR --port N`.

`HF_ENDPOINT=http://127.0.0.1:N` points huggingface_hub at it. A test hub subclasses `Hub` and overrides `answer_file`
or `read_bytes` to cut, garble or refuse what it sends.
"""

import argparse
import asyncio
import ipaddress
import re
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from demo.repos import HubFile, HubRepo, Repos, count_parameters, read_config

_BLOCK_BYTES = 64 * 1024
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@dataclass(frozen=True)
class Span:
    """The bytes `start` to `end`, without `end`."""

    start: int
    end: int


class Missing(Exception):
    """404 in the words that huggingface_hub understands."""

    def __init__(self, code: str, message: str, *, commit: str | None = None) -> None:
        super().__init__(message)
        self.headers = {"X-Error-Code": code, "X-Error-Message": message}
        if commit:
            self.headers["X-Repo-Commit"] = commit


class Hub:
    def __init__(self, repos_folder: Path, *, rate_bytes_per_second: int | None = None) -> None:
        self.repos = Repos(repos_folder)
        self.rate_bytes_per_second = rate_bytes_per_second

    def make_app(self) -> Starlette:
        model = "/api/models/{org}/{name}"
        routes = [
            Route("/api/models", self.list_models),
            Route(f"{model}/tree/{{revision}}", self.list_tree),
            Route(f"{model}/tree/{{revision}}/{{folder:path}}", self.list_tree),
            Route(f"{model}/revision/{{revision}}", self.show_model),
            Route(model, self.show_model),
            Route("/{org}/{name}/resolve/{revision}/{file:path}", self.send_file),
        ]
        return Starlette(routes=routes, exception_handlers={Missing: _answer_missing})

    def list_models(self, request: Request) -> Response:
        wanted = request.query_params.get("search", "").lower()
        author = request.query_params.get("author")
        limit = request.query_params.get("limit", "")
        ids = [
            each for each in self.repos.list_ids() if wanted in each.lower() and author in {None, each.split("/")[0]}
        ]
        found = [self.repos.find(each) for each in ids[: int(limit) if limit.isdigit() else None]]
        return JSONResponse([_describe_repo(repo) for repo in found if repo])

    def show_model(self, request: Request) -> Response:
        repo = self.find_repo(request)
        with_blobs = request.query_params.get("blobs", "").lower() in {"true", "1"}
        siblings = [_describe_sibling(file, with_blobs=with_blobs) for file in repo.files.values()]
        return JSONResponse(_describe_repo(repo) | _describe_weights(repo) | {"siblings": siblings})

    def list_tree(self, request: Request) -> Response:
        repo = self.find_repo(request)
        is_recursive = request.query_params.get("recursive", "").lower() in {"true", "1"}
        folder = request.path_params.get("folder", "").strip("/")
        entries = _list_entries(repo, folder=folder, is_recursive=is_recursive)
        if folder and not entries:
            raise Missing("EntryNotFound", f"{repo.id} has no folder {folder}.", commit=repo.commit)
        return JSONResponse(entries)

    async def send_file(self, request: Request) -> Response:
        repo = await run_in_threadpool(self.find_repo, request)
        name = request.path_params["file"]
        if name not in repo.files:
            raise Missing("EntryNotFound", f"{repo.id} has no file {name}.", commit=repo.commit)
        return await self.answer_file(request, repo=repo, file=repo.files[name])

    def find_repo(self, request: Request) -> HubRepo:
        """The repo of the request at its revision; raises Missing."""
        repo_id = f"{request.path_params['org']}/{request.path_params['name']}"
        repo = self.repos.find(repo_id)
        if repo is None:
            raise Missing("RepoNotFound", f"There is no model {repo_id} on this hub.")
        revision = request.path_params.get("revision", "main")
        if not repo.knows_revision(revision):
            raise Missing("RevisionNotFound", f"{repo_id} has no revision {revision}.")
        return repo

    async def answer_file(self, request: Request, *, repo: HubRepo, file: HubFile) -> Response:
        headers = _describe_file(file, repo=repo)
        asked = request.headers.get("Range")
        span = _read_range(asked, size_bytes=file.size_bytes) if asked else Span(0, file.size_bytes)
        if span is None:
            return Response(status_code=416, headers={"Content-Range": f"bytes */{file.size_bytes}"})
        if asked:
            headers["Content-Range"] = f"bytes {span.start}-{span.end - 1}/{file.size_bytes}"
        headers["Content-Length"] = str(span.end - span.start)
        status = 206 if asked else 200
        if request.method == "HEAD":
            return Response(status_code=status, headers=headers)
        return StreamingResponse(self.read_bytes(file, span=span), status_code=status, headers=headers)

    async def read_bytes(self, file: HubFile, *, span: Span) -> AsyncIterator[bytes]:
        """The bytes of the span, at the hub's rate counted over the whole answer."""
        started = time.monotonic()
        position = span.start
        with file.path.open("rb") as stream:
            stream.seek(span.start)
            while block := await run_in_threadpool(stream.read, min(_BLOCK_BYTES, span.end - position)):
                yield block
                position += len(block)
                await self._keep_to_rate(position - span.start, started=started)

    async def _keep_to_rate(self, sent_bytes: int, *, started: float) -> None:
        if self.rate_bytes_per_second:
            await asyncio.sleep(started + sent_bytes / self.rate_bytes_per_second - time.monotonic())


def make_app(repos_folder: Path, *, rate_bytes_per_second: int | None = None) -> Starlette:
    return Hub(repos_folder, rate_bytes_per_second=rate_bytes_per_second).make_app()


async def _answer_missing(request: Request, error: Exception) -> Response:
    headers = error.headers if isinstance(error, Missing) else {}
    return JSONResponse({"error": str(error)}, status_code=404, headers=headers)


def _read_range(asked: str, *, size_bytes: int) -> Span | None:
    """One range of bytes, as in `bytes=0-99`, `bytes=100-` or `bytes=-100`; None if it cannot be satisfied."""
    match = _RANGE.fullmatch(asked.strip())
    if not match or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    start = int(first) if first else max(0, size_bytes - int(last))
    end = min(int(last) + 1, size_bytes) if first and last else size_bytes
    return Span(start, end) if start < end else None


def _describe_file(file: HubFile, *, repo: HubRepo) -> dict[str, str]:
    headers = {"ETag": f'"{file.etag}"', "X-Repo-Commit": repo.commit, "Accept-Ranges": "bytes"}
    if file.sha256:
        headers |= {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(file.size_bytes)}
    return headers | {"Content-Type": "application/octet-stream"}


def _describe_repo(repo: HubRepo) -> dict[str, Any]:
    changed = repo.changed_at.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return {
        "_id": repo.commit[:24],
        "id": repo.id,
        "modelId": repo.id,
        "author": repo.id.split("/")[0],
        "sha": repo.commit,
        "lastModified": changed,
        "createdAt": changed,
        "private": False,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["transformers", "safetensors", "text-generation"],
    }


def _describe_weights(repo: HubRepo) -> dict[str, Any]:
    counts = count_parameters(repo)
    about = {"config": read_config(repo), "usedStorage": sum(file.size_bytes for file in repo.files.values())}
    return about | ({"safetensors": {"parameters": counts, "total": sum(counts.values())}} if counts else {})


def _describe_sibling(file: HubFile, *, with_blobs: bool) -> dict[str, Any]:
    sibling: dict[str, Any] = {"rfilename": file.name}
    if with_blobs:
        sibling |= {"size": file.size_bytes, "blobId": file.git_oid}
    if with_blobs and file.sha256:
        sibling["lfs"] = {"sha256": file.sha256, "size": file.size_bytes, "pointerSize": file.pointer_size_bytes}
    return sibling


def _list_entries(repo: HubRepo, *, folder: str, is_recursive: bool) -> list[dict[str, Any]]:
    """Folders first, as the Hub has them; without `is_recursive` only what lies directly in the folder."""
    root = PurePosixPath(folder)
    files = [file for name, file in repo.files.items() if root in PurePosixPath(name).parents]
    parents = {parent for file in files for parent in PurePosixPath(file.name).parents} - {root, *root.parents}
    entries = [_describe_folder(path, repo=repo) for path in sorted(parents)] + [
        _describe_entry(file) for file in files
    ]
    return [entry for entry in entries if is_recursive or PurePosixPath(entry["path"]).parent == root]


def _describe_folder(path: PurePosixPath, *, repo: HubRepo) -> dict[str, Any]:
    return {"type": "directory", "path": str(path), "size": 0, "oid": repo.commit}


def _describe_entry(file: HubFile) -> dict[str, Any]:
    entry = {"type": "file", "path": file.name, "size": file.size_bytes, "oid": file.git_oid}
    if file.sha256:
        entry["lfs"] = {"oid": file.sha256, "size": file.size_bytes, "pointerSize": file.pointer_size_bytes}
    return entry


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m demo.hub", description=__doc__)
    parser.add_argument("--repos", type=Path, required=True, metavar="DIR", help="holds <org>/<name>/<files>")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1", help="an address of loopback: this hub asks nobody for a key")
    parser.add_argument("--rate-mb-per-second", type=float, metavar="X", help="1 MB = 10^6 bytes; no limit by default")
    chosen = parser.parse_args(arguments)
    if not ipaddress.ip_address(chosen.host).is_loopback:
        parser.error(f"--host {chosen.host} is not on loopback. Use 127.0.0.1 or ::1.")
    if not chosen.repos.is_dir():
        parser.error(
            f"--repos {chosen.repos} is not a folder. Make one with `python -m demo.tiny_model DIR/demo/tiny`."
        )
    rate = int(chosen.rate_mb_per_second * 1_000_000) if chosen.rate_mb_per_second else None
    app = make_app(chosen.repos, rate_bytes_per_second=rate)
    uvicorn.run(app, host=chosen.host, port=chosen.port, log_level="warning")


if __name__ == "__main__":
    main()
