"""Clients that do harm, in a process of their own: they hold connections, and say how long the server let them.

A connection that the server closes is opened again, as long as the run lasts, so that all are held all the time.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from typing import Any

from .ground import PORT

HOST = f"Host: 127.0.0.1:{PORT}\r\n"
CHUNKED = f"POST /nowhere/ HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n".encode()
STRIPE = f"POST /stripe/webhook/ HTTP/1.1\r\n{HOST}Content-Length: 5000\r\n\r\n{{".encode()
MADE_UP = f"POST /api/v1/deliveries/ HTTP/1.1\r\n{HOST}X-API-Key: made-up\r\nContent-Length: 5000\r\n\r\n{{".encode()
HALF = f"POST /api/v1/deliveries/ HTTP/1.1\r\n{HOST}X-Half: ".encode()
# What each kind sends, and how many of it there are; `nearly` sends a body of the largest size, but for its last byte.
KINDS = {"chunked": (CHUNKED, 167), "stripe": (STRIPE, 167), "made_up": (MADE_UP, 166), "half": (HALF, 200)}
IDLE, NEARLY = 1000, 200
PIECE = b"x" * 65_536


class Run:
    """What came of all connections."""

    def __init__(self, *, seconds: float) -> None:
        self.end = time.monotonic() + seconds
        self.lived: dict[str, float] = {}
        self.closed: Counter[str] = Counter()
        self.left: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()

    def note(self, kind: str, began: float, data: bytes) -> None:
        self.closed[kind] += 1
        self.lived[kind] = max(self.lived.get(kind, 0.0), time.monotonic() - began)
        self.answers[data[9:12].decode("latin-1") or "none"] += 1


async def _hold(run: Run, kind: str, data: bytes, size: int, *, again: bool, longest: float) -> None:
    while True:
        began = time.monotonic()
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
            writer.write(data)
            reading = asyncio.ensure_future(_read(reader))
            try:
                await _write(writer, size)
                began = time.monotonic()  # the limit is for the byte that never comes
                run.note(kind, began, await asyncio.wait_for(reading, longest))
            finally:
                reading.cancel()
                writer.close()
        except TimeoutError:
            run.left[kind] += 1
        except OSError:
            run.note(kind, began, b"")
        if not again or time.monotonic() > run.end:
            return


async def _write(writer: asyncio.StreamWriter, size: int) -> None:
    while size > 0:
        writer.write(PIECE[:size])
        size -= len(PIECE)
        await writer.drain()


async def _read(reader: asyncio.StreamReader) -> bytes:
    whole = b""
    try:
        while data := await reader.read(65_536):
            whole = whole or data
    except OSError:
        pass
    return whole


async def _main(given: dict[str, Any]) -> None:
    run = Run(seconds=given["seconds"])
    longest = given["longest"]
    kinds = [(kind, data, count) for kind, (data, count) in KINDS.items()] + [("idle", b"", IDLE)]
    held = [_hold(run, kind, data, 0, again=True, longest=longest) for kind, data, count in kinds for _ in range(count)]
    if size := given["nearly"]:
        head = f"POST /api/v1/deliveries/ HTTP/1.1\r\n{HOST}Content-Length: {size}\r\n\r\n".encode()
        held += [_hold(run, "nearly", head, size - 1, again=False, longest=longest) for _ in range(NEARLY)]
    await asyncio.gather(*held)
    print(
        json.dumps(
            {"lived": run.lived, "closed": run.closed, "left": run.left, "answers": run.answers},
        )
    )


if __name__ == "__main__":
    asyncio.run(_main(json.load(sys.stdin)))
