"""Servers that say on the wire exactly what they are told, byte by byte, and remember what came."""

import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress

Script = Callable[[socket.socket], None]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Wire:
    """Runs `script` with each connection, in a thread of its own; `connections` counts them, `got` keeps requests."""

    def __init__(self, script: Script, *, context: ssl.SSLContext | None = None) -> None:
        self.script = script
        self.connections = 0
        self.got: list[bytes] = []
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._open: list[socket.socket] = []
        self.port = self._listener.getsockname()[1]
        self.url = f"http{'s' if context else ''}://127.0.0.1:{self.port}/"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                made, _ = self._listener.accept()
                self.connections += 1
                self._open.append(made)
                threading.Thread(target=self._talk, args=(made,), daemon=True).start()

    def _talk(self, made: socket.socket) -> None:
        with suppress(OSError):
            talk = self._context.wrap_socket(made, server_side=True) if self._context else made
            with talk:
                self.script(talk)

    def close(self) -> None:
        self._listener.close()
        for one in self._open:
            with suppress(OSError):
                one.close()


def read_request(talk: socket.socket) -> bytes:
    """Return one whole request; empty where the other side closed."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (part := talk.recv(65_536)):
            return b""
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    while len(body) < length:
        if not (part := talk.recv(65_536)):
            return b""
        body += part
    return head + b"\r\n\r\n" + body


def saying(*answers: bytes, wait: float = 0.0, hang: bool = False) -> Script:
    """Answer a connection's requests with `answers` in turn, each part after a `|||` 0.1 s later, then close."""

    def script(talk: socket.socket) -> None:
        for answer in answers:
            if not read_request(talk):
                return
            time.sleep(wait)
            for number, part in enumerate(answer.split(b"|||")):
                time.sleep(0.1 if number else 0)
                talk.sendall(part)
        if hang:
            talk.recv(1)

    return script


def reset(talk: socket.socket) -> None:
    """Close so that the other side sees a reset, not an end."""
    talk.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    talk.close()
