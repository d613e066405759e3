"""A load generator in a process of its own: keep-alive connections that each send their next request at once."""

import asyncio
import json
import subprocess
import sys
import time

from .ground import PORT, ROOT


def run(*, requests: list[bytes], connections: int, seconds: float = 3.0, times: int = 0) -> dict[str, float]:
    """Send `requests` in turn for `seconds` (or `times` in all); return `rate`, `count` and `errors`."""
    given = json.dumps(
        {
            "requests": [one.decode("latin-1") for one in requests],
            "connections": connections,
            "seconds": seconds,
            "times": times,
        }
    )
    command = [sys.executable, "-m", "bench.load"]
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=True, cwd=ROOT)
    return json.loads(done.stdout)


def request(method: str, path: str, *, body: bytes = b"", **headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{PORT}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body or method == "POST":
        lines += [f"Content-Length: {len(body)}", "Content-Type: application/json"]
    return "\r\n".join([*lines, "", ""]).encode() + body


class _Run:
    def __init__(self, *, requests: list[bytes], seconds: float, times: int) -> None:
        self.requests, self.times = requests, times
        self.sent = self.count = self.errors = 0
        self.begun = time.perf_counter()
        self.end = self.begun + seconds

    def next(self) -> bytes | None:
        over = self.sent >= self.times if self.times else time.perf_counter() >= self.end
        if over:
            return None
        self.sent += 1
        return self.requests[self.sent % len(self.requests)]


async def _connection(run: _Run, port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while (data := run.next()) is not None:
        writer.write(data)
        head = await reader.readuntil(b"\r\n\r\n")
        at = head.lower().find(b"content-length: ")
        length = int(head[at + 16 : head.find(b"\r\n", at)])
        if length:
            await reader.readexactly(length)
        run.count += 1
        run.errors += not 200 <= int(head[9:12]) < 300
    writer.close()


async def _main() -> None:
    given = json.load(sys.stdin)
    wanted = [one.encode("latin-1") for one in given["requests"]]
    run = _Run(requests=wanted, seconds=given["seconds"], times=given["times"])
    await asyncio.gather(*(_connection(run, PORT) for _ in range(given["connections"])))
    took = time.perf_counter() - run.begun
    print(json.dumps({"rate": run.count / took, "count": run.count, "errors": run.errors, "seconds": took}))


if __name__ == "__main__":
    asyncio.run(_main())
