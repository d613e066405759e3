"""A receiver that costs as little as one in Python can: counts requests, and notes when each came."""

import asyncio
import json
import sys
import time

BROKEN = b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
OK = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{"ok":true}'


class Seen:
    def __init__(self) -> None:
        self.count = 0
        self.first = self.last = 0.0
        self.stamps: dict[str, float] = {}

    def note(self, head: bytes) -> None:
        now = time.time()
        self.count += 1
        self.first = self.first or now
        self.last = now
        at = head.find(b"Idempotency-Key: timed-")
        if at >= 0:
            self.stamps.setdefault(head[at + 17 : head.find(b"\r\n", at)].decode(), now)

    def tell(self) -> bytes:
        body = json.dumps(vars(self)).encode()
        self.__init__()
        return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


class Protocol(asyncio.Protocol):
    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        self.buffer = b""

    def connection_made(self, transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end]
            if head.startswith(b"GET"):
                self.buffer = b""
                self.transport.write(self.seen.tell())
                return
            at = head.find(b"Content-Length: ")
            length = int(head[at + 16 : (head + b"\r\n").find(b"\r\n", at)])
            if len(self.buffer) < end + 4 + length:
                return
            self.buffer = self.buffer[end + 4 + length :]
            self.seen.note(head)
            self.transport.write(BROKEN if head.startswith(b"POST /webhook/broken ") else OK)


async def main(port: int) -> None:
    seen = Seen()
    server = await asyncio.get_running_loop().create_server(lambda: Protocol(seen), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
