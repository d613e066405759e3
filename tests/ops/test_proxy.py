"""The proxy's configuration in `ops/`, in a real nginx before a real server."""

import json
import os
import re
import shutil
import socket
import socketserver
import struct
import subprocess
import threading
import time
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from ..front.conftest import QUICK
from ..support.raw import Raw
from ..support.receiver import until
from ..support.web import Web
from ..support.workers import ROOT

NGINX = os.environ.get("NGINX_BINARY") or shutil.which("nginx") or ""
pytestmark = pytest.mark.skipif(not NGINX, reason="nginx is not here")


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.fixture
def web(tmp_path, transactional_db):
    made = Web(
        tmp_path, **{**QUICK, "MAX_BODY_BYTES": str(16 * 2**20), "WEB_BUFFERED_BYTES": str(2**26)}, TRUSTED_PROXIES="1"
    )
    yield made
    made.kill()


@pytest.fixture
def start(tmp_path):
    """Start nginx with its configuration but for addresses, paths, and what else is given; return its address."""
    running = []

    def run(web: str, **changes: str) -> str:
        port, text = free_port(), (ROOT / "ops/docker/nginx.conf").read_text()
        changes = {
            "web:8000": web,
            "listen 8080": f"listen 127.0.0.1:{port}",
            "/tmp/": f"{tmp_path}/",
            "worker_processes auto": "worker_processes 1",
            **changes,
            **({} if resolves() else {" resolve;": ";"}),
        }
        for old, new in changes.items():
            assert old in text
            text = text.replace(old, new)
        if os.geteuid() == 0:
            text = "user root;\n" + text
        file = tmp_path / "nginx.conf"
        file.write_text(text)
        tried = subprocess.run([NGINX, "-t", "-c", file], capture_output=True, text=True, check=False)
        assert tried.returncode == 0, tried.stderr
        assert "warn" not in tried.stderr, tried.stderr
        running.append(subprocess.Popen([NGINX, "-c", file, "-g", "daemon off;"]))
        until(lambda: is_open(port), within=30, what="nginx")
        return f"http://127.0.0.1:{port}"

    yield run
    for one in running:
        one.terminate()
        one.wait(30)


@pytest.fixture
def proxy(web, start):
    """nginx before the web server, with one limit that is shorter."""
    return start(web.url.removeprefix("http://"), **{"client_body_timeout 10s": "client_body_timeout 3s"})


@cache
def resolves() -> bool:
    """Whether the nginx that is here looks names up again, as the one of the compose file does."""
    said = subprocess.run([NGINX, "-v"], capture_output=True, text=True, check=True).stderr
    return tuple(map(int, re.search(r"nginx/(\d+)\.(\d+)\.(\d+)", said).groups())) >= (1, 27, 3)


def is_open(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def connections(web) -> int:
    """Return how many connections a server has."""
    port = int(web.url.rpartition(":")[2])
    with open("/proc/net/tcp") as file:
        return len(re.findall(rf"^ *\d+: 0100007F:{port:04X} \S+ 01 ", file.read(), re.MULTILINE))


def test_slow_clients_do_not_reach_the_server_and_others_are_served(web, proxy, key, workflow):
    workflow(paused=True)
    held = [Raw(proxy).head("POST", "/api/v1/deliveries/", "Content-Length: 1000").send(b"{") for _ in range(40)]
    time.sleep(0.5)
    assert connections(web) == 0
    body, bearer = {"workflow": "echo", "payload": {"n": "x" * 50_000}}, {"Authorization": f"Bearer {key()}"}
    assert requests.post(f"{proxy}/api/v1/deliveries/", json=body, headers=bearer, timeout=30).status_code == 201
    for one in held:
        assert one.end(within=60) < 60
        one.socket.close()


def test_bodies_above_either_limit_are_refused_in_a_way_that_clients_read(proxy):
    for size in (17 * 2**20, 2**26):
        assert requests.post(f"{proxy}/api/v1/deliveries/", data=b" " * size, timeout=60).status_code == 413
    proxys = requests.post(f"{proxy}/api/v1/deliveries/", data=b" " * 2**26, timeout=60)
    assert problem(proxys)["type"] == "urn:backstop:error:too-large"
    ours = requests.post(f"{proxy}/stripe/webhook/", data=b" " * 2**20, timeout=60)
    assert (ours.status_code, ours.headers["Content-Type"]) == (413, "application/problem+json")


def test_a_key_in_a_header_with_an_underscore_does_not_count(proxy, key, workflow):
    workflow(paused=True)
    body, plain = json.dumps({"workflow": "echo", "payload": {}}).encode(), key()
    for name, status in (("X_API_Key", 401), ("X-API-Key", 201)):
        with Raw(proxy).head("POST", "/api/v1/deliveries/", f"{name}: {plain}", f"Content-Length: {len(body)}") as one:
            assert one.send(body).read("POST").status == status


def test_the_caller_s_address_is_the_one_that_the_proxy_saw(proxy):
    from reliability.models import StripeRefusal

    headers = {"X-Forwarded-For": "198.51.100.1", "X_Forwarded_For": "198.51.100.2", "Stripe-Signature": "t=1,v1=0"}
    assert requests.post(f"{proxy}/stripe/webhook/", data=b"{}", headers=headers, timeout=30).status_code == 400
    assert StripeRefusal.objects.get().address == "127.0.0.1"


def test_a_kept_connection_to_the_server_is_used_again_and_never_found_closed(web, proxy):
    for pause in (0, 0.5, 2.5):  # the last is beyond the server's own limit for an idle connection
        time.sleep(pause)
        assert requests.get(f"{proxy}/healthz", timeout=30).status_code == 200


def problem(answer):
    """Return the body of an error, which is Backstop's kind of error whoever gave it."""
    assert answer.headers["Content-Type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == answer.status_code
    assert body["title"]
    assert body["detail"]
    return body


def test_errors_of_the_proxy_itself_are_problems_as_backstop_s_are(start):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        late = start(f"127.0.0.1:{silent.getsockname()[1]}", **{"proxy_read_timeout 90s": "proxy_read_timeout 1s"})
        answer = requests.get(f"{late}/readyz", timeout=30)
    assert (answer.status_code, answer.headers["Retry-After"]) == (504, "5")
    assert "may be stored" in problem(answer)["detail"]
    answer = requests.get(f"{late}/readyz", timeout=30)  # by now nobody listens
    assert (answer.status_code, answer.headers["Retry-After"]) == (502, "5")
    assert problem(answer)["type"] == "urn:backstop:error:unavailable"
    assert requests.head(f"{late}/readyz", timeout=30).status_code == 502
    for name, value, status in (("X-Long", "x" * 20_000, 431), ("TRACE", "", 405)):
        answer = requests.request("TRACE" if name == "TRACE" else "GET", late, headers={name: value}, timeout=30)
        assert answer.status_code == status
        assert "Retry-After" not in answer.headers
        problem(answer)
    assert problem(requests.get(f"{late}/{'x' * 20_000}", timeout=30))["status"] == 414


@pytest.mark.parametrize("is_own", [True, False])
def test_what_a_client_says_of_itself_is_passed_on_only_for_a_proxy_of_ours(start, is_own):
    with Behind("127.0.0.1") as behind:
        url = start(f"127.0.0.1:{behind.port}", **({} if is_own else {"127.0.0.0/8 1": "192.0.2.0/24 1"}))
        headers = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "198.51.100.1"}
        seen = requests.get(url, headers=headers, timeout=30).json()
    assert seen["X-Forwarded-Proto"] == ("https" if is_own else "http")
    assert seen["X-Forwarded-For"] == ("198.51.100.1, 127.0.0.1" if is_own else "127.0.0.1")


def test_a_web_server_that_moves_is_found_and_several_share_the_work(start):
    if not resolves():
        pytest.skip("this nginx is older than the one of the compose file, and looks names up once")
    with Behind("127.0.0.2") as one, Behind("127.0.0.3", port=one.port) as two, Names() as names:
        names.addresses = ["127.0.0.2"]
        resolver = {"resolver 127.0.0.11 valid=5s": f"resolver 127.0.0.1:{names.port} valid=1s ipv6=off"}
        url = start(f"web.test:{one.port}", **resolver)

        def seen() -> set[str]:
            answers = [requests.get(url, timeout=30) for _ in range(8)]
            return {answer.json()["at"] if answer.ok else str(answer.status_code) for answer in answers}

        until(lambda: seen() == {"127.0.0.2"}, within=30, what="the first address")
        names.addresses = ["127.0.0.3"]
        until(lambda: seen() == {"127.0.0.3"}, within=30, what="the new address")
        names.addresses = ["127.0.0.2", "127.0.0.3"]
        until(lambda: seen() == {"127.0.0.2", "127.0.0.3"}, within=30, what="both")
        assert two.port == one.port


class Behind(ThreadingHTTPServer):
    """A server in the web server's place: it answers with the headers that it got, and its own address as `at`."""

    daemon_threads = True

    def __init__(self, host: str, port: int = 0) -> None:
        super().__init__((host, port), Echo)
        self.port = self.server_address[1]

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class Echo(BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({**dict(self.headers), "at": self.server.server_address[0]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Say nothing."""


class Names(socketserver.ThreadingUDPServer):
    """A name server: every name has `addresses`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.port, self.addresses = self.server_address[1], []

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class Answering(socketserver.BaseRequestHandler):
    def handle(self):
        query, talk = self.request
        question = query[12 : query.index(b"\0", 12) + 5]
        found = self.server.addresses
        head = query[:2] + struct.pack(">HHHHH", 0x8180, 1, len(found), 0, 0)
        record = struct.pack(">HHHIH", 0xC00C, 1, 1, 1, 4)  # the name of the question, A, IN, for a second, 4 bytes
        talk.sendto(head + question + b"".join(record + socket.inet_aton(one) for one in found), self.client_address)
