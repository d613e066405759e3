"""What we rely on of the server, how it is started, and what several of its processes count together."""

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from config.front import sockets
from reliability.models import Delivery

from ..support.raw import Raw
from ..support.receiver import until
from ..support.workers import ROOT, environment
from .conftest import figures, logged
from .contract import LONGEST, RELEASED

CONTRACT = "tests.front.contract:application"
ABOVE = "Content-Length: 99999999"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize("path", ["/in-the-loop", "/in-a-thread"])
def test_the_server_sends_before_anything_is_awaited(serve_other, tmp_path, path):
    """`sending.now` rests on it: where this fails after an upgrade of Granian, it has to await in the event loop."""
    released = tmp_path / "released"
    web = serve_other(application=CONTRACT, **{RELEASED: str(released)})
    with Raw(web.url).head("GET", path) as one:
        one.socket.settimeout(LONGEST - 5)
        assert one.read().body == b"ok"
    assert not released.exists()
    released.touch()
    requests.get(f"{web.url}/", timeout=60)
    assert "never awaited" not in logged(web)


def test_the_server_hands_over_what_came_as_it_came(serve_other):
    web = serve_other(application=CONTRACT)
    with Raw(web.url).head("GET", "/scope?a=%41", "X-One: 1", "X_One: 2", "x-one: 3") as one:
        assert one.read().body == b"/scope a=%41 x-one=1; x-one=3; x_one=2"


@pytest.fixture
def command(tmp_path, transactional_db):
    """Start `manage.py web`, its open files limited; return the process, its address and its log."""
    running = []

    def start(*options: str, files: tuple[int, int] | None = None, **changes: str):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
        log = tmp_path / "command.log"
        values = environment(WEB_HEADER_SECONDS="2", PORT="1" if options else str(port), **changes)
        words = [*options, "--port", str(port)] if options else []
        limited = ["prlimit", f"--nofile={files[0]}:{files[1]}"] if files else []
        with log.open("wb") as file:
            made = subprocess.Popen(
                [*limited, sys.executable, "manage.py", "web", *words],
                cwd=ROOT,
                env=values,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        running.append(made)
        url = f"http://127.0.0.1:{port}"
        until(lambda: answers(url) or made.poll() is not None, within=60, what="the server")
        assert made.poll() is None, log.read_text()
        return made, url, log

    yield start
    for one in running:
        if one.poll() is None:
            os.killpg(one.pid, signal.SIGKILL)
            one.wait()


def answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/healthz", timeout=2).status_code == 200
    except requests.RequestException:
        return False


def server_of(pid: int) -> int:
    """Return the process that serves."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("options", [(), ("--host", "127.0.0.1")], ids=["by environment", "by option"])
def test_manage_py_web_becomes_the_server_and_ends_with_it(command, options, tmp_path):
    made, url, _ = command(*options, PROMETHEUS_MULTIPROC_DIR=str(tmp_path / "counts"))
    assert "granian" in Path(f"/proc/{made.pid}/cmdline").read_text(), "no process of ours stays in memory"
    variables = Path(f"/proc/{made.pid}/environ").read_bytes()
    assert b"MALLOC_ARENA_MAX=2" in variables
    assert b"PROMETHEUS_MULTIPROC_DIR=" in variables, "its counts would be its own alone"
    assert requests.get(f"{url}/readyz", timeout=30).status_code == 200
    made.terminate()
    assert made.wait(60) == 0
    assert not answers(url)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_low_limit_of_open_files_is_raised_as_far_as_may_be(command):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    made, _, _ = command(files=(200, hard))
    assert resource.prlimit(server_of(made.pid), resource.RLIMIT_NOFILE) == (hard, hard)


def seconds_of(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_more_connections_than_open_files_are_neither_an_error_nor_a_busy_loop(command):
    made, url, log = command(files=(256, 256))
    assert "WEB_MAX_CONNECTIONS=4096: it allows 176" in log.read_text()
    pid = server_of(made.pid)
    connections = [Raw(url) for _ in range(600)]
    time.sleep(0.5)
    before = seconds_of(pid)
    time.sleep(1)
    assert seconds_of(pid) - before < 0.5
    until(lambda: answers(url), within=60, what="an answer, once idle connections have ended by their limit")
    for one in connections:
        one.socket.close()
    assert "open files (" not in log.read_text()
    assert "os error 24" not in log.read_text()


def test_connections_are_as_many_as_open_files_allow(settings, monkeypatch):
    settings.WEB_MAX_CONNECTIONS, settings.WEB_THREADS = 4096, 4

    def allow(hard: int) -> None:
        monkeypatch.setattr(resource, "getrlimit", lambda _: (64, hard))

    allow(resource.RLIM_INFINITY)
    assert (sockets.connections(), sockets.shortage()) == (4096, None)
    allow(4096 + 80)
    assert (sockets.connections(), sockets.shortage()) == (4096, None)
    allow(4096 + 79)
    assert sockets.connections() == 4095
    assert "WEB_MAX_CONNECTIONS=4096" in sockets.shortage()


def test_two_processes_count_refusals_together(serve, tmp_path):
    where = str(tmp_path / "counts")
    one = serve(PROMETHEUS_MULTIPROC_DIR=where)
    other = serve(PROMETHEUS_MULTIPROC_DIR=where, WEB_THREADS="3")
    for web, times in ((one, 2), (other, 3)):
        for _ in range(times):
            with Raw(web.url).head("POST", "/nowhere/", ABOVE) as sent:
                assert sent.read("POST").status == 413
    for web in (one, other):
        assert figures(web)("backstop_http_refused_total", reason="too_large") == 5
        assert figures(web)("backstop_http_refused_total", reason="ending") == 0


def test_a_request_s_id_and_trace_pass_to_what_is_made_of_it_and_into_refusals(serve, key, workflow):
    workflow(paused=True)
    web, body = serve(), b'{"workflow": "echo", "payload": {"n": 1}}'
    about = (f"Traceparent: {TRACE}", "X-Request-Id: mine", f"Authorization: Bearer {key()}")
    with Raw(web.url).head("POST", "/api/v1/deliveries/", f"Content-Length: {len(body)}", *about) as one:
        made = one.send(body).read("POST")
    with Raw(web.url).head("POST", "/api/v1/deliveries/", ABOVE, *about) as one:
        refused = one.read("POST")
    assert (made.status, refused.status) == (201, 413)
    assert made.headers["x-request-id"] == refused.headers["x-request-id"] == "mine"
    kept = Delivery.objects.get()
    assert (kept.request_id, kept.traceparent) == ("mine", TRACE)
