"""The gateway's own HTTP to engines: whole answers, streams in odd pieces, and every way to break off."""

import asyncio
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.link import LinkBroken, get_json, send

EVENTS = [b"data: {}\n\n", b"data: " + b"x" * 70_000 + b"\n\n", b"data: [DONE]\n\n"]


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))


@asynccontextmanager
async def engine(
    path: Path, *pieces: bytes, then_waits: bool = False, pause_seconds: float = 0.01
) -> AsyncIterator[list[bytes]]:
    """Answers each request with the pieces, one write for each. Yields what it was asked."""
    asked: list[bytes] = []
    answering: set[asyncio.Task] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answering.add(asyncio.current_task())
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_seconds)
        if then_waits:
            await reader.read()
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)

    server = await asyncio.start_unix_server(answer, path)
    try:
        yield asked
    finally:
        await asyncio.gather(*answering)
        server.close()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=8), st.data())
async def test_chunks_come_out_whole_however_the_bytes_are_cut(chunks: list[bytes], data: st.DataObject) -> None:
    stream, pieces, parts = HEAD + chunked(*chunks), [], []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        pieces.append(stream[:size])
        stream = stream[size:]
    with tempfile.TemporaryDirectory() as folder:
        async with engine(Path(folder, "s"), *pieces, pause_seconds=0):
            answer = await send(Path(folder, "s"), "GET", "/")
            parts = [part async for part in answer.parts()]
            answer.close()
    assert b"".join(parts) == b"".join(chunks)
    ends = {sum(map(len, chunks[:count])) for count in range(len(chunks) + 1)}
    assert {sum(map(len, parts[:count])) for count in range(len(parts) + 1)} <= ends


async def test_what_came_together_is_handed_on_in_one_piece(tmp_path: Path) -> None:
    async with engine(tmp_path / "s", HEAD + chunked(b"one", b"two", b"three")):
        answer = await send(tmp_path / "s", "GET", "/")
        assert [part async for part in answer.parts()] == [b"onetwothree"]
        answer.close()


async def test_a_stream_comes_as_it_is_sent(tmp_path: Path) -> None:
    body = chunked(*EVENTS)
    async with engine(tmp_path / "s", HEAD, body[:5], body[5:30_000], body[30_000:]) as asked:
        answer = await send(tmp_path / "s", "POST", "/v1/x", body=b'{"a": 1}')
        assert answer.status == 200
        assert await answer.read() == b"".join(EVENTS)
        answer.close()
    assert b"POST /v1/x HTTP/1.1\r\n" in asked[0] and b"Content-Length: 8\r\n" in asked[0]


async def test_json_is_read_whole(tmp_path: Path) -> None:
    async with engine(tmp_path / "s", b"HTTP/1.1 503 No\r\nContent-Length: 9\r\n\r\n", b'{"a"', b": 10}"):
        assert await get_json(tmp_path / "s", "/health", limit_seconds=5) == (503, {"a": 10})


@pytest.mark.parametrize(
    "pieces",
    [
        (),
        (b"HTTP/1.1 200 OK\r\nContent-Le",),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", b"{}"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"5\r\nab"),
        (b"nonsense\r\n\r\n",),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"-008\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"xyz\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", b"no{}"),
    ],
)
async def test_an_answer_that_is_none_is_a_broken_link(tmp_path: Path, pieces: tuple[bytes, ...]) -> None:
    async with engine(tmp_path / "s", *pieces):
        with pytest.raises(LinkBroken):
            await get_json(tmp_path / "s", "/health", limit_seconds=5)


async def test_nobody_at_the_socket_is_a_broken_link(tmp_path: Path) -> None:
    with pytest.raises(LinkBroken, match="takes no connection"):
        await send(tmp_path / "s", "GET", "/health")


async def test_silence_has_a_limit(tmp_path: Path) -> None:
    async with engine(tmp_path / "s", then_waits=True):
        with pytest.raises(TimeoutError):
            await get_json(tmp_path / "s", "/health", limit_seconds=0.1)


async def test_a_crowded_socket_is_tried_again_until_there_is_room(tmp_path: Path) -> None:
    """A unix socket with a full queue refuses at once, and asyncio's own connect takes that for an error."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen(0)
        listener.setblocking(False)
        asking = [asyncio.create_task(send(tmp_path / "s", "GET", "/")) for _ in range(5)]
        await asyncio.sleep(0.1)
        loop = asyncio.get_running_loop()
        for _ in asking:
            connection, _ = await loop.sock_accept(listener)
            with connection:
                await loop.sock_recv(connection, 100)
                await loop.sock_sendall(connection, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        answers = await asyncio.gather(*asking)
    assert [answer.status for answer in answers] == [200] * 5
    for answer in answers:
        answer.close()


async def test_closing_is_seen_at_the_other_end(tmp_path: Path) -> None:
    has_left = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await reader.read()
        has_left.set()
        writer.close()

    server = await asyncio.start_unix_server(answer, tmp_path / "s")
    link = await send(tmp_path / "s", "GET", "/")
    assert await anext(link.parts()) == b"hello"
    link.close()
    await asyncio.wait_for(has_left.wait(), 1)
    server.close()
