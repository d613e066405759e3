"""A steady stream of requests in a process of its own, and how long each took, from the moment it was due."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from .ground import PORT, ROOT

CONNECTIONS = 16


class Stream:
    """What a stream came to, once it has ended: milliseconds, by share of the requests."""

    def __init__(self) -> None:
        self.found: dict[str, float] = {}


@contextmanager
def stream(*, request: bytes, rate: float) -> Iterator[Stream]:
    """Send a request `rate` times a second for as long as the block lasts; then tell how it went."""
    command = [sys.executable, "-m", "bench.steady", str(rate)]
    running = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert running.stdin is not None
    running.stdin.write(len(request).to_bytes(4, "big") + request)
    running.stdin.flush()
    made = Stream()
    try:
        yield made
    finally:
        said, _ = running.communicate(timeout=120)
    made.found = json.loads(said)


async def _send(free: "asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]]", data: bytes) -> int:
    """Send over a free connection; return the status."""
    reader, writer = await free.get()
    writer.write(data)
    head = await reader.readuntil(b"\r\n\r\n")
    at = head.lower().find(b"content-length: ")
    await reader.readexactly(int(head[at + 16 : head.find(b"\r\n", at)]))
    free.put_nowait((reader, writer))
    return int(head[9:12])


async def _main(rate: float, data: bytes) -> None:
    free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        free.put_nowait(await asyncio.open_connection("127.0.0.1", PORT))
    took: list[float] = []
    errors = 0

    async def one(due: float) -> None:
        nonlocal errors
        status = await _send(free, data)
        took.append(1000 * (time.perf_counter() - due))
        errors += not 200 <= status < 300

    told = asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)
    due, under_way = time.perf_counter(), set()
    while not told.done():
        task = asyncio.ensure_future(one(due))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
        due += 1 / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
    await asyncio.gather(*under_way)
    took.sort()
    shares = {"median": 0.5, "p95": 0.95, "p99": 0.99, "worst": 1.0}
    found = {name: took[min(len(took) - 1, int(len(took) * share))] for name, share in shares.items()}
    print(json.dumps({**found, "count": len(took), "errors": errors}))


if __name__ == "__main__":
    length = int.from_bytes(sys.stdin.buffer.read(4), "big")
    asyncio.run(_main(float(sys.argv[1]), sys.stdin.buffer.read(length)))
