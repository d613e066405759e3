"""A WSGI application behind the front door, for answers that none of ours gives."""

import os
import tempfile
import threading
import time

import django

django.setup()

from config.front import limits  # noqa: E402
from config.front.application import FrontApplication  # noqa: E402

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


def counted(environ):
    """As many pieces as the query says, each of the largest size that is sent at once."""
    for _ in range(int(environ["QUERY_STRING"])):
        yield b"x" * limits.PIECE


def broken():
    yield b"x" * 2_000_000
    raise RuntimeError("amid the answer")


PLAIN = [("Content-Type", "text/plain")]


def written(environ, start_response):
    start_response("200 OK", PLAIN)(b"by write, ")
    return Pieces([b"and ", b"returned"])


def replaced(environ, start_response):
    start_response("200 OK", PLAIN)
    try:
        raise RuntimeError
    except RuntimeError as error:
        start_response("500 Internal Server Error", PLAIN, (type(error), error, error.__traceback__))
    return Pieces([b"replaced"])


def raises(environ, start_response):
    raise RuntimeError("before any answer")


def from_file(environ, start_response):
    file = tempfile.TemporaryFile()  # noqa: SIM115  # whoever answers closes it
    file.write(b"0123456789" * 2_000_000)
    file.seek(10)
    start_response("200 OK", [*PLAIN, ("Content-Length", "19999980")])
    return environ["wsgi.file_wrapper"](file)


def slow(environ, start_response):
    time.sleep(float(environ["QUERY_STRING"] or 2))
    start_response("200 OK", PLAIN)
    return [b"slow"]


def giving(make, status="200 OK", headers=PLAIN):
    """Return an application that gives what `make` makes of a request."""

    def answer(environ, start_response):
        start_response(status, headers)
        return make(environ)

    return answer


ANSWERS = {
    "/readyz": giving(lambda _: [b"ok"]),
    "/forget": giving(lambda _: CLOSED.clear() or [b""]),
    "/closed": giving(lambda _: [f"{len(CLOSED)} {all(CLOSED)}".encode()]),
    "/in/echo": giving(lambda _: [b"echo"]),
    "/echo": giving(lambda environ: [environ["REQUEST_METHOD"].encode(), b" ", environ["wsgi.input"].read()]),
    "/written": written,
    "/replaced": replaced,
    "/none": giving(lambda _: Pieces([]), "204 No Content", []),
    "/raises": raises,
    "/silent": lambda *_: Pieces([b"no status"]),
    "/many": giving(lambda _: Pieces(many())),
    "/counted": giving(lambda environ: Pieces(counted(environ))),
    "/broken": giving(lambda _: Pieces(broken())),
    "/large": giving(lambda _: Pieces([b"x" * 20_000_000]), headers=[*PLAIN, ("Content-Length", "20000000")]),
    "/file": from_file,
    "/in/slow": slow,
    "/admin/slow": slow,
}


def behind(environ, start_response):
    return ANSWERS.get(environ["PATH_INFO"], giving(lambda _: [b""], "404 Not Found"))(environ, start_response)


application = FrontApplication(behind, secret="", limits=limits.configured(), logs=bool(os.environ.get("LOGS")))
