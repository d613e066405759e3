"""One attempt on the wire, against a real server."""

import socket
import threading
import time
from contextlib import suppress

import pytest

from reliability.policies.classification import Failure
from reliability.transport import client as transport
from reliability.transport.client import Request

from ..support.receiver import Reply


@pytest.fixture
def address(receiver):
    return f"127.0.0.1:{receiver.port}"


def post(url: str, body: bytes = b'{"a": 1}', **headers: str) -> transport.Answer:
    return transport.send(Request(url, body, {name.replace("_", "-"): value for name, value in headers.items()}, 5))


def test_what_goes_out(receiver, address):
    answer = post(f"http://{address}/webhook/a?b=c", '{"ä": 1}'.encode(), Idempotency_Key="k")
    (got,) = receiver.got
    seen = dict(got.headers)
    assert answer.reply is not None
    assert (answer.reply.status, answer.reply.body) == (200, '{"ok": true}')
    assert (got.path, got.body) == ("/webhook/a?b=c", '{"ä": 1}'.encode())
    assert seen.pop("host") == address
    assert seen.pop("user-agent").startswith("Backstop/")
    assert "gzip" in seen.pop("accept-encoding")
    assert seen == {
        "accept": "*/*",
        "connection": "keep-alive",
        "content-length": "9",
        "content-type": "application/json",
        "idempotency-key": "k",
    }


def test_a_header_of_the_workflow_s_takes_the_place_of_ours(receiver, address):
    post(f"http://{address}/", content_type="text/plain", Authorization="Bearer x")
    assert receiver.got[0].headers["content-type"] == "text/plain"
    assert receiver.got[0].headers["authorization"] == "Bearer x"


def test_a_name_and_password_in_the_address_are_shown(receiver, address):
    post(f"http://olga:secret@{address}/")
    assert receiver.got[0].headers["authorization"] == "Basic b2xnYTpzZWNyZXQ="


def test_no_cookie_goes_from_one_delivery_to_the_next(receiver, address):
    receiver.rule = lambda got: Reply(headers={"Set-Cookie": "n8n=1; Path=/"})
    post(f"http://{address}/")
    post(f"http://{address}/")
    assert ["cookie" in one.headers for one in receiver.got] == [False, False]


def test_a_redirect_is_an_answer(receiver, address):
    receiver.rule = lambda got: Reply(302, headers={"Location": "/elsewhere"})
    answer = post(f"http://{address}/")
    assert answer.reply is not None
    assert (answer.reply.status, len(receiver.got)) == (302, 1)


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("nonsense", {}),
        ("ftp://127.0.0.1/", {}),
        ("http://", {}),
        ("http://127.0.0.1:1/", {"X": "a\r\nb: c"}),
        ("http://127.0.0.1:1/", {"X": "a\nb"}),
    ],
)
def test_what_cannot_be_sent_is_a_failure(url, headers):
    answer = post(url, **headers)
    assert (answer.reply, bool(answer.detail)) == (None, True)


@pytest.mark.parametrize(
    ("url", "held"), [("http://n8n/", True), ("https://n8n/", "/bundle.pem"), ("HTTPS://n8n/", "/bundle.pem")]
)
def test_certificates_are_held_against_the_bundle_where_there_are_any(monkeypatch, url, held):
    monkeypatch.setattr(transport.session(), "verify", "/bundle.pem")
    assert transport._verify(url) == held


@pytest.fixture
def trickle():
    """A server whose answers come a byte every 50 ms: give it what it says."""
    listener = socket.create_server(("127.0.0.1", 0))
    said = []

    def talk():
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, suppress(OSError):
                    connection.recv(65_536)
                    for byte in said[0]:
                        connection.sendall(bytes([byte]))
                        time.sleep(0.05)

    def start(text):
        said.append(text)
        threading.Thread(target=talk, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/"

    yield start
    listener.close()


HEADERS = b"HTTP/1.1 200 OK\r\nX-Long: " + 1000 * b"a"


@pytest.mark.parametrize("text", [HEADERS, 1000 * b"a"], ids=["headers", "status"])
@pytest.mark.parametrize("way", ["send", "call"])
def test_headers_that_trickle_in_are_no_answer_once_the_time_is_over(trickle, way, text):
    url, began = trickle(text), time.monotonic()
    if way == "send":
        answer = transport.send(Request(url, b"{}", {}, 0.4))
    else:
        answer = transport.call(method="GET", url=url, headers={}, timeout=0.4)
    assert answer.failure is Failure.READ_TIMEOUT
    assert 0.4 <= time.monotonic() - began < 2


def test_through_a_proxy_too(trickle, monkeypatch):
    proxy, began = trickle(HEADERS), time.monotonic()
    monkeypatch.setattr(transport.session(), "proxies", {"http": proxy})
    answer = transport.send(Request("http://n8n.example.com/", b"{}", {}, 0.4))
    assert answer.failure is Failure.READ_TIMEOUT
    assert time.monotonic() - began < 2


def test_a_connection_is_kept_for_the_next_answer_with_a_time_of_its_own(receiver, address):
    for _ in range(2):
        receiver.rule = lambda got: Reply(wait=0.3)
        answer = transport.send(Request(f"http://{address}/", b"{}", {}, 0.5))
        assert answer.reply is not None
        assert answer.reply.status == 200
