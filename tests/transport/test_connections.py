"""When a connection may carry another request, and what an answer is, byte by byte."""

import time

import pytest

from reliability.policies.classification import Failure
from reliability.transport import client as transport
from reliability.transport import deadline_adapter
from reliability.transport.client import Request

from ..support.wire import OK, read_request, reset, saying

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(autouse=True)
def no_connection_of_another_test():
    transport.session().close()


def post(wire, body: bytes = b"{}", timeout: float = 5, **options) -> transport.Answer:
    return transport.send(Request(wire.url, body, {}, timeout, **options))


def statuses(*answers: transport.Answer) -> list[object]:
    return [one.reply.status if one.reply else one.failure for one in answers]


@pytest.mark.parametrize(
    "interim",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\n|||",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n|||",
        b"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n",
        5 * b"HTTP/1.1 103 Early Hints\r\n\r\n" + b"|||",
    ],
)
def test_interim_answers_are_read_on_to_the_final_one(wire, interim):
    server = wire(saying(interim + OK, OK.replace(b"200 OK", b"422 No")))
    assert statuses(post(server), post(server)) == [200, 422]
    assert server.connections == 1


def test_an_interim_answer_alone_is_none(wire):
    server = wire(saying(b"HTTP/1.1 103 Early Hints\r\n\r\n", hang=True))
    assert statuses(post(server, timeout=0.4)) == [Failure.READ_TIMEOUT]


def test_interim_answers_without_end_are_no_answer(wire):
    server = wire(saying(10_000 * b"HTTP/1.1 103 Early Hints\r\n\r\n"))
    assert statuses(post(server)) == [Failure.CONNECTION_LOST_AFTER_SEND]


def test_a_protocol_nobody_asked_for_is_no_answer(wire):
    server = wire(saying(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n" + OK, hang=True))
    assert statuses(post(server), post(server)) == 2 * [Failure.CONNECTION_LOST_AFTER_SEND]
    assert server.connections == 2


STALE = b"HTTP/1.1 299 Stale\r\nContent-Length: 0\r\n\r\n"
UNSOUND = {
    "bytes after the body": (OK + b"x", 200),
    "an answer after the body": (OK + OK, 200),
    "a late answer after the body": (OK + b"|||" + OK, 200),
    "204 with a length": (b"HTTP/1.1 204 None\r\nContent-Length: 2\r\n\r\nok", 204),
    "204 with a body": (b"HTTP/1.1 204 None\r\n\r\nok", 204),
    "204 with a late body": (b"HTTP/1.1 204 None\r\n\r\n|||ok", 204),
    "304 with chunks": (b"HTTP/1.1 304 Same\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 304),
    "304 with a body": (b"HTTP/1.1 304 Same\r\nContent-Length: 2\r\n\r\nok", 304),
    "a length and chunks": (HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200),
    "two lengths": (HEAD + b"Content-Length: 2\r\nContent-Length: 1\r\n\r\nok", 200),
    "the same length twice": (HEAD + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok", 200),
    "a list of lengths": (HEAD + b"Content-Length: 2, 2\r\n\r\nok", 200),
    "a length with a sign": (HEAD + b"Content-Length: +2\r\n\r\nok", 200),
    "a length with an underscore": (HEAD + b"Content-Length: 0_2\r\n\r\nok", 200),
    "a length below nothing": (HEAD + b"Content-Length: -2\r\n\r\nok", 200),
    "another coding": (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 200),
    "chunks twice": (HEAD + 2 * b"Transfer-Encoding: chunked\r\n" + b"\r\n0\r\n\r\n", 200),
    "chunks in HTTP/1.0": (CHUNKED.replace(b"1.1", b"1.0") + b"0\r\n\r\n", 200),
    "a chunk's size with a sign": (CHUNKED + b"+2\r\nok\r\n0\r\n\r\n", 200),
    "a chunk's size with a prefix": (CHUNKED + b"0x2\r\nok\r\n0\r\n\r\n", 200),
    "a chunk longer than its size": (CHUNKED + b"1\r\nok\r\n0\r\n\r\n", 200),
    "chunks that break off": (CHUNKED + b"2\r\nok\r\n", 200),
    "bytes after the chunks": (CHUNKED + b"0\r\n\r\nx", 200),
    "a trailer that breaks off": (CHUNKED + b"0\r\nX: a", 200),
    "a space before the colon": (HEAD + b"Content-Length : 2\r\n\r\nok", 200),
    "lines without CR": (OK.replace(b"\r\n\r\n", b"\n\r\n"), 200),
    "a line that is no header": (HEAD + b"nonsense\r\nContent-Length: 2\r\n\r\nok", 200),
    "a folded line": (HEAD + b"X: a\r\n b\r\nContent-Length: 2\r\n\r\nok", 200),
    "no length": (HEAD + b"\r\nok", 200),
    "HTTP/1.0": (OK.replace(b"1.1", b"1.0"), 200),
    "a promise to close": (HEAD + b"Connection: close\r\nContent-Length: 2\r\n\r\nok", 200),
    "a body cut short": (HEAD + b"Content-Length: 9\r\n\r\nok", 200),
    "a body larger than what is kept": (
        HEAD + b"Content-Length: 99999\r\n\r\n" + 99_999 * b"x",
        200,
    ),
}


@pytest.mark.parametrize("name", UNSOUND)
def test_a_connection_in_doubt_carries_no_other_request(wire, name):
    first, status = UNSOUND[name]
    goes_on = () if "cut" in name or "break" in name or name == "no length" else (STALE,)

    def script(talk) -> None:
        said = first if server.connections == 1 else OK.replace(b"200 OK", b"422 No")
        saying(said, *goes_on)(talk)

    server = wire(script)
    one = post(server, timeout=1)
    time.sleep(0.2)  # what comes late has come by now
    assert statuses(one, post(server, timeout=1)) == [status, 422]
    assert server.connections == 2


@pytest.mark.parametrize(
    "answer",
    [
        OK,
        HEAD + b"Content-Length: 0\r\n\r\n",
        b"HTTP/1.1 204 None\r\n\r\n",
        b"HTTP/1.1 304 Same\r\nContent-Length: 7\r\n\r\n",
        CHUNKED + b"2\r\nok\r\n0\r\n\r\n",
        CHUNKED + b"2;a=b\r\nok\r\n000\r\nX-Trailer: a\r\n\r\n",
        HEAD + b"content-length: 2\r\nX:\r\nY: \xfc\r\n\r\nok",
    ],
)
def test_a_sound_answer_gives_its_connection_back(wire, answer):
    server = wire(saying(answer, answer, answer))
    assert len({*statuses(post(server), post(server), post(server))}) == 1
    assert server.connections == 1


def test_a_connection_that_was_idle_for_long_is_not_used(wire, monkeypatch):
    monkeypatch.setattr(deadline_adapter, "IDLE_LIMIT", 0.1)
    server = wire(saying(OK, OK))
    post(server)
    time.sleep(0.2)
    assert statuses(post(server)) == [200]
    assert server.connections == 2


def test_one_that_closed_just_before_the_request_came_is_replaced(wire, monkeypatch):
    """The end arrives between the look at the connection and the request: n8n certainly did not run it."""

    server = wire(saying(OK))
    post(server)
    time.sleep(0.1)
    monkeypatch.setattr(deadline_adapter._Bounded, "is_connected", property(lambda self: self.sock is not None))
    assert statuses(post(server)) == [200]
    assert server.connections == 2


def test_a_kept_connection_that_breaks_after_it_took_the_request_leaves_the_outcome_open(wire):
    def script(talk) -> None:
        saying(OK)(talk) if server.connections > 1 else (talk.sendall(OK) if read_request(talk) else None)
        if server.connections == 1:
            server.got.append(read_request(talk))

    server = wire(script)
    assert statuses(post(server), post(server)) == [200, Failure.CONNECTION_LOST_AFTER_SEND]
    assert len(server.got) == 1


@pytest.mark.parametrize(
    ("said", "failure"),
    [
        (b"", Failure.CONNECTION_LOST_AFTER_SEND),
        (b"HTTP/1.1 20", Failure.CONNECTION_LOST_AFTER_SEND),
        (b"HTTP/1.1 200 OK\r\nX: a", Failure.CONNECTION_LOST_AFTER_SEND),
        (b"SSH-2.0-OpenSSH_9.9\r\n", Failure.CONNECTION_LOST_AFTER_SEND),
        (b"HTTP/2 200\r\n\r\n", Failure.CONNECTION_LOST_AFTER_SEND),
        (b"2\r\nok\r\n0\r\n\r\n", Failure.CONNECTION_LOST_AFTER_SEND),
        (70_000 * b"a", Failure.CONNECTION_LOST_AFTER_SEND),
    ],
)
def test_what_ends_before_the_answer_is_there_leaves_the_outcome_open(wire, said, failure):
    assert statuses(post(wire(saying(said)))) == [failure]


def test_a_reset_after_the_request_leaves_the_outcome_open(wire):
    def script(talk) -> None:
        read_request(talk)
        reset(talk)

    answer = post(wire(script))
    assert (answer.failure, answer.detail) == (Failure.CONNECTION_LOST_AFTER_SEND, "Connection reset by peer")


LARGE = 20_000_000 * b"x"


def test_a_reset_while_the_request_is_sent_is_no_open_outcome(wire):
    def script(talk) -> None:
        talk.recv(1000)
        reset(talk)

    assert statuses(post(wire(script), LARGE)) == [Failure.SEND_INTERRUPTED]


def test_a_request_that_is_not_read_is_no_open_outcome(wire):
    server = wire(lambda talk: time.sleep(3))
    assert statuses(post(server, LARGE, timeout=0.5)) == [Failure.SEND_INTERRUPTED]


@pytest.mark.parametrize("then", ["close", "hang"])
def test_an_answer_before_the_request_was_sent_is_an_answer(wire, then):
    def script(talk) -> None:
        talk.recv(1000)
        talk.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        if then == "hang":
            time.sleep(3)

    server = wire(script)
    assert statuses(post(server, LARGE, timeout=2)) == [413]
    assert statuses(post(server, LARGE, timeout=2)) == [413]
    assert server.connections == 2


@pytest.mark.parametrize("count", [101, 900, 5000])
def test_many_headers_are_an_answer(wire, count):
    lines = b"".join(b"X-%d: a\r\n" % n for n in range(count))
    server = wire(saying(HEAD + lines + b"Content-Length: 2\r\n\r\nok", hang=True))
    answer = post(server)
    assert statuses(answer) == [200]
    assert answer.reply is not None
    assert (answer.reply.body == "ok") == (count <= 1000)


@pytest.mark.parametrize(
    "lines", [b"X: " + 70_000 * b"a" + b"\r\n", b"".join(b"X-%d: %s\r\n" % (n, 9000 * b"a") for n in range(40))]
)
def test_long_headers_are_an_answer(wire, lines):
    server = wire(saying(HEAD + lines + b"Content-Length: 2\r\n\r\nok", hang=True))
    assert statuses(post(server)) == [200]
