"""Why no reply came: on the wire as far as it can be had there, and what `requests` raises, in tables."""

import http.client
import os
import socket
import ssl
import threading
import time

import pytest
import requests
import responses
import urllib3

from config import resolver
from reliability.policies.classification import Failure
from reliability.transport import client as transport
from reliability.transport import deadline_adapter, no_reply
from reliability.transport.client import Answer, Request
from reliability.transport.exchange import LeaseExpired, Stage
from reliability.transport.local_fault import LocalFault

from ..support.wire import OK, broken, certificate, proxy, read_request, saying

pytestmark = pytest.mark.usefixtures("own_session")
F = Failure


@pytest.fixture
def trusted(own_session, monkeypatch):
    """A TLS server's context whose certificate is trusted here."""
    context, path = certificate()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", path)
    return context


def post(url: str, timeout: float = 5, body: bytes = b"{}", **headers: str) -> Answer:
    return transport.send(Request(url, body, headers, timeout))


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_over_tls_connections_are_kept(wire, trusted):
    server = wire(saying(OK, OK), context=trusted)
    assert [post(server.url).reply.status for _ in range(2)] == [200, 200]
    assert server.connections == 1


def test_over_tls_what_follows_an_answer_is_noticed(wire, trusted):
    server = wire(saying(OK + OK.replace(b"200", b"299"), OK.replace(b"200", b"298")), context=trusted)
    assert [post(server.url).reply.status for _ in range(2)] == [200, 200]
    assert server.connections == 2


def test_a_large_request_goes_over_tls(wire, trusted):
    server = wire(lambda talk: (server.got.append(read_request(talk)), talk.sendall(OK)), context=trusted)
    assert post(server.url, body=5_000_000 * b"x").reply.status == 200
    assert server.got[0].endswith(b"\r\n\r\n" + 5_000_000 * b"x")


def test_an_answer_over_tls_before_the_request_was_sent_is_an_answer(wire, trusted):
    def script(talk) -> None:
        talk.recv(1000)
        talk.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        time.sleep(3)

    assert post(wire(script, context=trusted).url, body=20_000_000 * b"x", timeout=2).reply.status == 413


def test_through_a_proxy_connections_are_kept(wire, trusted, monkeypatch):
    server, between = wire(saying(OK, OK), context=trusted), wire(proxy())
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{between.port}")
    assert [post(server.url).reply.status for _ in range(2)] == [200, 200]
    assert (between.connections, server.connections) == (1, 1)


def test_a_stalled_handshake_is_a_failure_to_connect(wire, monkeypatch):
    monkeypatch.setattr(deadline_adapter, "HANDSHAKE_TIMEOUT", 0.3)
    server = wire(lambda talk: time.sleep(3))
    began = time.monotonic()
    answer = post(server.url.replace("http:", "https:"))
    assert (answer.failure, answer.detail) == (F.TLS_HANDSHAKE_TIMEOUT, "timed out")
    assert time.monotonic() - began < 2


def test_a_handshake_that_breaks_off_is_a_failure_to_connect(wire):
    server = wire(lambda talk: talk.recv(1))
    assert post(server.url.replace("http:", "https:")).failure in (F.TLS_ERROR, F.CONNECTION_RESET)


def test_a_certificate_that_is_not_trusted_is_named(wire):
    answer = post(wire(saying(OK), context=certificate()[0]).url)
    assert answer.failure is F.TLS_ERROR
    assert answer.detail == "certificate verify failed: self-signed certificate"


def test_a_certificate_for_another_name_is_named(wire, monkeypatch):
    context, path = certificate("n8n.example.com")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", path)
    answer = post(wire(saying(OK), context=context).url)
    assert answer.failure is F.TLS_ERROR
    assert answer.detail.startswith("certificate verify failed: IP address mismatch")


def test_a_port_without_tls_is_named(wire):
    answer = post(wire(lambda talk: talk.sendall(OK)).url.replace("http:", "https:"))
    assert answer.failure is F.TLS_ERROR
    assert "does this port speak TLS?" in answer.detail


def test_a_server_that_wants_a_certificate_of_ours_did_not_run_it(wire, trusted):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    path = os.environ["REQUESTS_CA_BUNDLE"]
    context.load_cert_chain(path, path.replace("certificate", "key"))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(path)
    answer = post(wire(saying(OK), context=context).url)
    # Its alert may be lost when it closes, but it is certain that nothing ran.
    assert (answer.failure, answer.detail) in (
        (F.TLS_ERROR, "tlsv13 alert certificate required"),
        (F.CONNECTION_RESET, "Connection reset by peer"),
        (F.CONNECTION_RESET, "EOF occurred in violation of protocol"),
    )


def test_a_refused_connection():
    answer = post(f"http://127.0.0.1:{closed_port()}/")
    assert (answer.failure, answer.detail) == (F.CONNECTION_REFUSED, "Connection refused")


def test_a_connection_that_is_not_taken_is_a_failure_to_connect(monkeypatch):
    monkeypatch.setattr(deadline_adapter, "CONNECT_TIMEOUT", 0.3)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:
            one.setblocking(False)  # its only argument
            one.connect_ex(address)
        time.sleep(0.1)
        answer = post(f"http://127.0.0.1:{address[1]}/")
        for one in waiting:
            one.close()
    assert (answer.failure, answer.detail) == (F.CONNECT_TIMEOUT, "timed out")


def test_a_name_that_does_not_resolve():
    answer = post("http://nothing.invalid/")
    assert (answer.failure, answer.code) == (F.DNS_FAILURE, "")
    assert answer.detail
    assert "Unknown error" not in answer.detail


def test_a_name_whose_lookup_hangs_holds_up_no_other(monkeypatch):
    end, real = threading.Event(), socket.getaddrinfo

    def hangs(host, *arguments, flags=0, **options):
        if host == "hangs.example" and not flags:
            end.wait(20)
        return real("127.0.0.1" if host == "well.example" else host, *arguments, flags=flags, **options)

    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    monkeypatch.setattr(deadline_adapter, "CONNECT_TIMEOUT", 0.3)
    try:
        answer = post("http://hangs.example/")
        assert (answer.failure, answer.code) == (F.DNS_FAILURE, "dns_timeout")
        assert post(f"http://well.example:{closed_port()}/").failure is F.CONNECTION_REFUSED
    finally:
        end.set()


@pytest.mark.parametrize(
    ("answer", "failure", "code"),
    [
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", F.LOCAL_FAULT, "proxy_refused"),
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", F.LOCAL_FAULT, "proxy_refused"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", F.LOCAL_FAULT, "proxy_refused"),
        (b"", F.LOCAL_FAULT, "proxy_refused"),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", F.CONNECTION_REFUSED, ""),
    ],
)
def test_a_proxy_that_does_not_connect(wire, monkeypatch, answer, failure, code):
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{wire(proxy(answer)).port}")
    found = post("https://n8n.example.com/")
    assert (found.failure, found.code) == (failure, code)
    assert "HTTPS_PROXY" in found.detail


def test_a_proxy_that_stalls_is_a_failure_to_connect(wire, monkeypatch):
    monkeypatch.setattr(deadline_adapter, "CONNECT_TIMEOUT", 0.3)
    server = wire(lambda talk: time.sleep(3))
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.port}")
    assert post("https://n8n.example.com/").failure is F.CONNECT_TIMEOUT


LOCAL = [
    ({"REQUESTS_CA_BUNDLE": "/nowhere.pem"}, "https://127.0.0.1/", {}, "ca_bundle_missing", "REQUESTS_CA_BUNDLE"),
    ({"CURL_CA_BUNDLE": "/nowhere.pem"}, "https://127.0.0.1/", {}, "ca_bundle_missing", "CURL_CA_BUNDLE"),
    ({"REQUESTS_CA_BUNDLE": __file__}, "https://127.0.0.1/", {}, "ca_bundle_unusable", "REQUESTS_CA_BUNDLE"),
    ({"REQUESTS_CA_BUNDLE": "/"}, "https://127.0.0.1/", {}, "ca_bundle_unusable", "REQUESTS_CA_BUNDLE"),
    ({"HTTP_PROXY": "socks5://127.0.0.1:1"}, "http://n8n/", {}, "proxy_unusable", "HTTP_PROXY"),
    ({"ALL_PROXY": "socks5h://127.0.0.1:1"}, "http://n8n/", {}, "proxy_unusable", "ALL_PROXY"),
    ({"HTTPS_PROXY": "ftp://127.0.0.1:1"}, "https://n8n/", {}, "proxy_unusable", "HTTPS_PROXY"),
    ({"HTTP_PROXY": "http://"}, "http://n8n/", {}, "proxy_unusable", "HTTP_PROXY"),
    ({"HTTP_PROXY": "http://[::1"}, "http://n8n/", {}, "proxy_unusable", "HTTP_PROXY"),
    ({"HTTP_PROXY": "http://127.0.0.1:1"}, "http://n8n/", {}, "proxy_unreachable", "HTTP_PROXY"),
    ({"HTTPS_PROXY": "http://nothing.invalid:1"}, "https://n8n/", {}, "proxy_unreachable", "HTTPS_PROXY"),
    ({}, "nonsense", {}, "url_unusable", "N8N_WEBHOOK_URL"),
    ({}, "ftp://127.0.0.1/", {}, "url_unusable", "N8N_WEBHOOK_URL"),
    ({}, "http://", {}, "url_unusable", "N8N_WEBHOOK_URL"),
    ({}, "http://[::1/", {}, "url_unusable", "N8N_WEBHOOK_URL"),
    ({}, "http://127.0.0.1:99999/", {}, "url_unusable", "N8N_WEBHOOK_URL"),
    ({}, f"http://{70 * 'a'}.example/", {}, "url_unusable", "N8N_WEBHOOK_URL"),
    ({}, "http://127.0.0.1:1/", {"X": "a\r\nb: c"}, "header_unsendable", "authentication header"),
    ({}, "http://127.0.0.1:1/", {"X": "a\nb"}, "header_unsendable", "authentication header"),
    ({}, "http://127.0.0.1:1/", {"X": "a\x00b"}, "header_unsendable", "authentication header"),
    ({}, "http://127.0.0.1:1/", {"X": "ключ"}, "header_unsendable", "authentication header"),
    ({}, "http://127.0.0.1:1/", {"X–Api–Key": "a"}, "header_unsendable", "authentication header"),
    ({}, "http://127.0.0.1:1/", {"X-A:": "a"}, "header_unsendable", "authentication header"),
    ({}, "http://127.0.0.1:1/", {"": "a"}, "header_unsendable", "authentication header"),
]


@pytest.mark.parametrize(("environment", "url", "headers", "code", "named"), LOCAL)
def test_a_fault_of_our_own_names_the_setting(monkeypatch, environment, url, headers, code, named):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    answer = post(url, **headers)
    assert (answer.failure, answer.code) == (F.LOCAL_FAULT, code)
    assert named in answer.detail
    assert not any(value in answer.detail for value in headers.values() if len(value) > 1)


def test_a_bundle_that_is_put_right_is_read(wire, monkeypatch, tmp_path):
    context, path = certificate()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "bundle.pem"))
    server = wire(saying(OK), context=context)
    assert post(server.url).code == "ca_bundle_missing"
    (tmp_path / "bundle.pem").write_bytes(b"")
    assert post(server.url).code == "ca_bundle_unusable"
    with open(path, "rb") as found:
        (tmp_path / "bundle.pem").write_bytes(found.read())
    assert post(server.url).reply.status == 200


POOL = urllib3.HTTPConnectionPool("n8n")
RAISED = [
    (LocalFault("x", "y"), F.LOCAL_FAULT),
    (requests.exceptions.InvalidURL(LocalFault("x", "y")), F.LOCAL_FAULT),
    (LeaseExpired(), F.LOCAL_FAULT),
    (requests.exceptions.MissingSchema("x"), F.LOCAL_FAULT),
    (requests.exceptions.InvalidSchema("Missing dependencies for SOCKS support."), F.LOCAL_FAULT),
    (requests.exceptions.InvalidProxyURL("x"), F.LOCAL_FAULT),
    (broken(socket.gaierror(socket.EAI_NONAME, "Name or service not known")), F.DNS_FAILURE),
    (broken(resolver.NameTimeout(socket.EAI_AGAIN, "x")), F.DNS_FAILURE),
    (requests.ConnectTimeout(), F.CONNECT_TIMEOUT),
    (requests.ReadTimeout(), F.READ_TIMEOUT),
    (broken(TimeoutError("timed out")), F.READ_TIMEOUT),
    (requests.exceptions.SSLError(ssl.SSLError(1, "[SSL] x")), F.TLS_ERROR),
    (broken(ConnectionRefusedError(111, "x")), F.CONNECTION_REFUSED),
    (requests.ConnectionError(urllib3.exceptions.NewConnectionError(POOL, "x")), F.CONNECTION_REFUSED),
    (broken(http.client.RemoteDisconnected("x")), F.CONNECTION_LOST_AFTER_SEND),
    (broken(ConnectionResetError(104, "x")), F.CONNECTION_LOST_AFTER_SEND),
    (broken(http.client.IncompleteRead(b"")), F.CONNECTION_LOST_AFTER_SEND),
    (requests.exceptions.ChunkedEncodingError(urllib3.exceptions.ProtocolError("x")), F.CONNECTION_LOST_AFTER_SEND),
    (requests.ConnectionError("x"), F.CONNECTION_ERROR),
    (requests.exceptions.ContentDecodingError("x"), F.CONNECTION_ERROR),
]


def name(value: object) -> str:
    return str(value) if isinstance(value, Failure) else type(value).__name__


@pytest.mark.parametrize(("error", "failure"), RAISED, ids=name)
def test_what_requests_raises(error, failure):
    assert no_reply.failure_of(error) is failure
    with responses.RequestsMock() as mock:
        mock.post("http://n8n/webhook/a", body=error)
        answer = post("http://n8n/webhook/a")
    assert (answer.reply, answer.failure) == (None, failure)


@pytest.mark.parametrize(
    ("stage", "failures"),
    [
        (Stage.RESOLVE, (F.CONNECTION_RESET, F.CONNECT_TIMEOUT)),
        (Stage.CONNECT, (F.CONNECTION_RESET, F.CONNECT_TIMEOUT)),
        (Stage.PROXY, (F.CONNECTION_RESET, F.CONNECT_TIMEOUT)),
        (Stage.HANDSHAKE, (F.CONNECTION_RESET, F.TLS_HANDSHAKE_TIMEOUT)),
        (Stage.READY, (F.CONNECTION_RESET, F.CONNECT_TIMEOUT)),
        (Stage.SEND, (F.SEND_INTERRUPTED, F.SEND_INTERRUPTED)),
        (Stage.WAIT, (F.CONNECTION_LOST_AFTER_SEND, F.READ_TIMEOUT)),
    ],
)
def test_how_far_it_came_decides(stage, failures):
    errors = broken(ConnectionResetError(104, "x")), broken(TimeoutError("timed out"))
    assert tuple(no_reply.failure_of(error, stage) for error in errors) == failures


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "Name or service not known"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)"), "wrong version number"),
        (ConnectionResetError(104, "x"), "Connection reset by peer"),
        (TimeoutError("_ssl.c:1006: The handshake operation timed out"), "timed out"),
        (OSError("plain"), "plain"),
        (OSError(), "OSError"),
        (requests.ConnectionError("http://n8n/?token=geheim"), "ConnectionError"),
    ],
)
def test_the_words_are_those_of_whoever_failed(error, text):
    assert text in no_reply.describe(error)
    assert "Operation not permitted" not in no_reply.describe(error)
