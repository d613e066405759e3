"""Answers that are packed: what they unpack to costs neither memory nor time beyond the limits."""

import gzip
import time
import tracemalloc
import zlib

import pytest

from reliability.transport import client as transport
from reliability.transport.client import Request

from ..support.wire import Wire, saying

MEGABYTE = 1024 * 1024


def packed(unit: bytes, size: int) -> bytes:
    """Return a gzip member that unpacks to `unit`, over and over, for `size` bytes."""
    machine, block = zlib.compressobj(9, zlib.DEFLATED, 31), unit * (MEGABYTE // len(unit))
    return b"".join([*(machine.compress(block) for _ in range(size // len(block))), machine.flush()])


def answer(body: bytes, *codings: str, more: bytes = b"") -> bytes:
    encoded = b"".join(f"Content-Encoding: {one}\r\n".encode() for one in codings)
    return b"HTTP/1.1 200 OK\r\n" + encoded + more + f"Content-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.fixture
def says():
    wires = []

    def start(*answers: bytes) -> str:
        wires.append(Wire(saying(*answers)))
        return wires[-1].url

    yield start
    for one in wires:
        one.close()


def post(url: str, timeout: float = 30) -> transport.Answer:
    return transport.send(Request(url, b"{}", {}, timeout))


def get(url: str, timeout: float = 30, **options) -> transport.Answer:
    return transport.call(method="GET", url=url, headers={}, timeout=timeout, **options)


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "GZIP", "deflate", "identity"])
def test_an_answer_in_a_coding_that_was_asked_for_is_read(says, coding):
    text = b'{"a": 1}'
    body = {"deflate": zlib.compress(text), "identity": text}.get(coding, gzip.compress(text))
    packet = answer(body, coding)
    for found in (post(says(packet)), get(says(packet))):
        assert found.reply is not None
        assert found.reply.body == text.decode()


def test_what_an_answer_unpacks_to_is_bounded(says):
    """256 MB in 256 KB: of them no more is unpacked than is kept."""
    packet = answer(packed(b"\0", 256 * MEGABYTE), "gzip")
    found, peak = peak_of(lambda: post(says(packet)))
    assert found.reply is not None
    assert len(found.reply.body) == transport.BODY_LIMIT
    assert peak < 4 * MEGABYTE
    found, peak = peak_of(lambda: get(says(packet), limit=MEGABYTE))
    assert found.reply is None
    assert "larger than 1048576 bytes" in found.detail
    assert peak < 8 * MEGABYTE


def peak_of(act):
    tracemalloc.start()
    try:
        return act(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("codings", [("gzip, gzip, gzip",), ("gzip", "gzip", "gzip")])
def test_a_coding_within_another_is_not_unpacked(says, codings):
    """256 MB of empty members, packed twice into 4 KB: it would take a minute and give nothing."""
    packet = answer(gzip.compress(packed(gzip.compress(b"", mtime=0), 256 * MEGABYTE), 9), *codings)
    begin = time.thread_time()
    found = post(says(packet), timeout=5)
    assert found.reply is not None
    assert (found.reply.status, found.reply.body) == (200, "")
    assert get(says(packet), timeout=5).reply is None
    assert time.thread_time() - begin < 2


@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "gzip, br"])
def test_a_coding_that_was_not_asked_for_is_not_taken_for_text(says, coding):
    packet = answer(b'{"a": 1}', coding)
    found = post(says(packet))
    assert found.reply is not None
    assert found.reply.body == ""
    refused = get(says(packet))
    assert refused.reply is None
    assert refused.detail == "The answer is encoded in a way that was not asked for."


def test_an_attempt_keeps_so_much_of_the_headers_at_most(says):
    large = b"".join(b"X-%d: %s\r\n" % (i, b"v" * 4000) for i in range(20))
    found = post(says(answer(b"ok", more=b"X-Whole: " + b"w" * 5000 + b"\r\n" + large)))
    assert found.reply is not None
    assert found.reply.headers["x-whole"] == "[5,000 characters]"
    assert found.reply.headers["x-0"] == "v" * 4000
    assert sum(len(name) + len(value) for name, value in found.reply.headers.items()) <= 32 * 1024
    assert found.reply.body == "ok"
