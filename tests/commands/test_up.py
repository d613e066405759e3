"""`manage.py up`: everything starts, what dies starts again, and all of it ends."""

import errno
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import requests
from django.core.management import CommandError, call_command

from reliability.management.supervisor import Child, Supervisor
from reliability.models import Delivery

from ..support.newcomer import answers, children, command_of, free_port
from ..support.receiver import until
from ..support.workers import ROOT, environment

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def up(tmp_path, receiver):
    """Backstop as a newcomer starts it."""
    port = free_port()
    values = environment(PORT=str(port), N8N_WEBHOOK_URL=receiver.url, ADMIN_PASSWORD="a-password-1")
    log = (tmp_path / "up.log").open("wb")
    process = subprocess.Popen([sys.executable, "manage.py", "up"], env=values, cwd=ROOT, stdout=log, stderr=log)
    process.url = f"http://127.0.0.1:{port}"
    until(lambda: answers(process.url + "/readyz"), within=120)
    yield process
    if process.poll() is None:
        process.kill()
        process.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_dies_starts_again_what_was_accepted_is_kept_and_all_ends(up, workflow, key, receiver):
    workflow()
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {key()}"
    web = next(pid for pid in children(up.pid) if "granian" in command_of(pid))
    accepted = 0
    for n in range(40):
        body = {"workflow": "echo", "payload": {"n": n}, "idempotency_key": f"k{n}"}
        try:
            accepted += session.post(f"{up.url}/api/v1/deliveries/", json=body, timeout=5).status_code == 201
        except requests.RequestException:
            continue
        if n == 20:
            for pid in [*children(web), web]:
                os.kill(pid, signal.SIGKILL)
    assert accepted >= 20
    until(lambda: answers(up.url + "/readyz"), within=120)
    until(lambda: Delivery.objects.filter(state="delivered").count() >= accepted, within=120)
    again = session.post(
        f"{up.url}/api/v1/deliveries/",
        json={"workflow": "echo", "payload": {"n": 0}, "idempotency_key": "k0"},
        timeout=5,
    )
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
    worker = next(pid for pid in children(up.pid) if "manage.py worker" in command_of(pid))
    os.kill(worker, signal.SIGKILL)
    session.post(f"{up.url}/api/v1/deliveries/", json={"workflow": "echo", "payload": {}}, timeout=5)
    until(lambda: not Delivery.objects.exclude(state="delivered").exists(), within=120)
    running = children(up.pid)
    up.send_signal(signal.SIGINT)
    assert up.wait(timeout=120) == 0
    assert not any(command_of(pid) for pid in running)


@pytest.mark.parametrize("port", ["abc", "0", "65536", "-1", "80.5", "\u0661"])
def test_a_port_that_is_none_is_refused_before_anything_starts(port, monkeypatch):
    monkeypatch.setenv("PORT", port)
    with pytest.raises(CommandError, match="PORT in the environment, must be a whole number from 1 to 65535"):
        call_command("up")


SERVER = """
import socket, subprocess, sys, time
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
listener.set_inheritable(True)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(12)"], close_fds=False)
time.sleep(60)
"""


@pytest.mark.parametrize("ends", ["killed", "told"])
def test_a_server_that_ends_leaves_nobody_at_its_port(ends):
    """Its own processes outlive a kill: they would answer on, beside the next one and after all has ended."""
    port = free_port()
    child = Child("web", [sys.executable, "-c", SERVER, str(port)])
    supervisor = Supervisor(children=[child], patience=1)
    supervisor._tend(child)
    until(lambda: is_open(port), within=20, what="the server")
    time.sleep(0.5)
    if ends == "killed":
        child.process.kill()
        child.process.wait()
        supervisor._tend(child)
    else:
        supervisor._end_all()
    until(lambda: not is_open(port), within=5, what="an end")


def is_open(port):
    with socket.socket() as one:
        one.settimeout(0.5)  # nobody takes the connections: in the end they wait
        return one.connect_ex(("127.0.0.1", port)) != errno.ECONNREFUSED
