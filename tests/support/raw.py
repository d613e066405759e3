"""Raw HTTP connections, for clients that no library would be."""

import socket
import time
from dataclasses import dataclass
from http.client import HTTPResponse
from urllib.parse import urlsplit


@dataclass
class Answered:
    status: int
    headers: dict[str, str]
    body: bytes


class Raw:
    """A connection to a server; it closes with its `with`."""

    def __init__(self, url: str, *, receive_buffer: int = 0) -> None:
        parts = urlsplit(url)
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(60)
        self.socket.connect((parts.hostname, parts.port))
        self.host = f"{parts.hostname}:{parts.port}"

    def __enter__(self) -> "Raw":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> "Raw":
        self.socket.sendall(data)
        return self

    def head(self, method: str, path: str, *headers: str, host: str = "") -> "Raw":
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host or self.host}", *headers]
        return self.send("\r\n".join([*lines, "", ""]).encode("latin-1"))

    def read(self, method: str = "GET") -> Answered:
        found = HTTPResponse(self.socket, method=method)
        found.begin()
        return Answered(found.status, {k.lower(): v for k, v in found.getheaders()}, found.read())

    def end(self, *, within: float = 30) -> float:
        """Read until the server closes; return after how many seconds it did."""
        began = time.monotonic()
        self.socket.settimeout(within)
        try:
            while self.socket.recv(65536):
                pass
        except ConnectionResetError:
            pass
        return time.monotonic() - began
