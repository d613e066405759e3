"""The proxy's configuration in `ops/`, in a real nginx before a real server."""

import json
import os
import re
import shutil
import socket
import subprocess
import time

import pytest
import requests

from ..front.conftest import QUICK
from ..support.raw import Raw
from ..support.receiver import until
from ..support.web import Web
from ..support.workers import ROOT

pytestmark = pytest.mark.skipif(not shutil.which("nginx"), reason="nginx is not here")


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
def proxy(web, tmp_path):
    """The address of nginx: its configuration but for addresses, paths, and one limit that is shorter."""
    port, text = free_port(), (ROOT / "ops/docker/nginx.conf").read_text()
    changes = {
        "web:8000": web.url.removeprefix("http://"),
        "listen 8080": f"listen 127.0.0.1:{port}",
        "/tmp/": f"{tmp_path}/",
        "client_body_timeout 10s": "client_body_timeout 3s",
        "worker_processes auto": "worker_processes 1",
    }
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    if os.geteuid() == 0:
        text = "user root;\n" + text
    file = tmp_path / "nginx.conf"
    file.write_text(text)
    tried = subprocess.run(["nginx", "-t", "-c", file], capture_output=True, text=True, check=False)
    assert tried.returncode == 0, tried.stderr
    assert "warn" not in tried.stderr, tried.stderr
    running = subprocess.Popen(["nginx", "-c", file, "-g", "daemon off;"])
    until(lambda: is_open(port), within=30, what="nginx")
    yield f"http://127.0.0.1:{port}"
    running.terminate()
    running.wait(30)


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
