"""A WSGI application behind the front door, for answers that none of ours gives."""

import os
import tempfile
import threading
import time

import django

django.setup()

from config.front import limits  # noqa: E402
from config.front.door import Door  # noqa: E402

CLOSED = []


class Pieces:
    """An answer in pieces that remembers in which thread it was closed."""

    def __init__(self, pieces):
        self.pieces = iter(pieces)
        self.thread = threading.get_ident()

    def __iter__(self):
        return self.pieces

    def close(self):
        CLOSED.append(threading.get_ident() == self.thread)


def many():
    for _ in range(2000):
        yield b"x" * 65536


def broken():
    yield b"x" * 2_000_000
    raise RuntimeError("amid the answer")


def behind(environ, start_response):
    path, plain = environ["PATH_INFO"], [("Content-Type", "text/plain")]
    if path == "/readyz":
        start_response("200 OK", plain)
        return [b"ok"]
    if path == "/closed":
        start_response("200 OK", plain)
        return [f"{len(CLOSED)} {all(CLOSED)}".encode()]
    if path == "/written":
        write = start_response("200 OK", plain)
        write(b"by write, ")
        return Pieces([b"and ", b"returned"])
    if path == "/replaced":
        start_response("200 OK", plain)
        try:
            raise RuntimeError
        except RuntimeError as error:
            start_response("500 Internal Server Error", plain, (type(error), error, error.__traceback__))
        return Pieces([b"replaced"])
    if path == "/none":
        start_response("204 No Content", [])
        return Pieces([])
    if path == "/raises":
        raise RuntimeError("before any answer")
    if path == "/silent":
        return Pieces([b"no status"])
    if path == "/many":
        start_response("200 OK", plain)
        return Pieces(many())
    if path == "/broken":
        start_response("200 OK", plain)
        return Pieces(broken())
    if path == "/large":
        start_response("200 OK", [*plain, ("Content-Length", str(20_000_000))])
        return Pieces([b"x" * 20_000_000])
    if path == "/file":
        file = tempfile.TemporaryFile()
        file.write(b"0123456789" * 2_000_000)
        file.seek(10)
        start_response("200 OK", [*plain, ("Content-Length", "19999980")])
        return environ["wsgi.file_wrapper"](file)
    if path in ("/slow", "/admin/slow"):
        time.sleep(float(environ["QUERY_STRING"] or 2))
        start_response("200 OK", plain)
        return [b"slow"]
    if path == "/echo":
        start_response("200 OK", plain)
        return [environ["REQUEST_METHOD"].encode(), b" ", environ["wsgi.input"].read()]
    start_response("404 Not Found", plain)
    return [b""]


application = Door(behind, secret="", limits=limits.configured(), logs=bool(os.environ.get("LOGS")))
