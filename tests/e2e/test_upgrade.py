"""New code beside old on one database, under load: nothing is refused, nothing is lost.

The old code is that of `OLD`, or of the commit that `UPGRADE_FROM` names; git's history has to be there.
"""

import io
import os
import subprocess
import sys
import tarfile
import threading
import time
from collections import Counter
from itertools import count

import pytest
import requests
from django.core.management import call_command
from django.db import connection

from reliability.models import ApiKey, DeadLetter, Delivery, Workflow

from ..support.receiver import until
from ..support.web import Web
from ..support.workers import ROOT, Workers, environment

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]
# Name the release before with each release.
OLD = "2e4292006959789c0b46bca12df523fd27c9eb6d"


def git(*words: str) -> bytes:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"git has no history to take the old code from: {done.stderr.decode()[:200]}")
    return done.stdout


@pytest.fixture
def old(tmp_path):
    """The tree of the code before, beside today's."""
    wanted = os.environ.get("UPGRADE_FROM") or OLD
    with tarfile.open(fileobj=io.BytesIO(git("archive", wanted))) as archive:
        archive.extractall(tmp_path / "old", filter="data")
    return tmp_path / "old"


@pytest.fixture
def schema_of_old(old):
    """The database as the old code's migrations left it; as today's again afterwards."""
    for app in ("scheduling", "reliability"):
        names = sorted(path.stem for path in (old / app / "migrations").glob("0*.py"))
        present = {path.stem for path in (ROOT / app / "migrations").glob("0*.py")}
        if unknown := sorted(set(names) - present):
            # There is no way from such a database to today's (docs/upgrade.md), and so nothing to try.
            pytest.skip(f"The migrations started anew since the old code: {app}.{unknown[0]} is no longer there.")
        ahead = present - set(names)
        if ahead:
            call_command("migrate", app, names[-1] if names else "zero", verbosity=0)
    yield
    call_command("migrate", verbosity=0)


class Load:
    """Sends deliveries, to whichever servers there are just now, and keeps what came back."""

    def __init__(self, key: str) -> None:
        self.headers = {"Authorization": f"Bearer {key}"}
        self.urls: list[str] = []
        self.answers: Counter[object] = Counter()
        self.accepted: set[str] = set()
        self._numbers = count()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(4)]

    def start(self, url: str) -> None:
        self.urls = [url]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def for_a_while(self, more: int = 150) -> None:
        wanted = sum(self.answers.values()) + more
        until(lambda: sum(self.answers.values()) >= wanted, within=90, what=f"{more} more answers")

    def _run(self) -> None:
        session = requests.Session()
        while not self._over.is_set():
            number = next(self._numbers)
            body = {"workflow": "echo", "payload": {"n": number}, "idempotency_key": f"n-{number}"}
            url = self.urls[number % len(self.urls)]
            try:
                answer = session.post(f"{url}/api/v1/deliveries/", json=body, headers=self.headers, timeout=20)
                self.answers[answer.status_code] += 1
                self.accepted.add(answer.json()["id"])
            except (requests.RequestException, KeyError, ValueError) as error:
                self.answers[type(error).__name__] += 1
            time.sleep(0.01)


class Old:
    """A process of the old code."""

    def __init__(self, tree, log, *command: str, **changes: str) -> None:
        self.log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(command, env=environment(**changes), cwd=tree, stdout=file, stderr=file)

    def end(self) -> int:
        self.process.terminate()
        return self.process.wait(timeout=70)


def test_new_code_beside_old_loses_and_refuses_nothing(old, schema_of_old, receiver, tmp_path):
    with connection.cursor() as cursor:  # by SQL, since today's models may be ahead of this schema
        cursor.execute("SELECT count(*) FROM reliability_delivery")
        assert cursor.fetchone() == (0,)
    key = ApiKey.issue(name="upgrade")[1]
    Workflow.objects.create(slug="echo", name="echo", path="echo", concurrency_limit=8, base_delay_ms=50)
    receiver.always(wait=0.02)
    changes = {"N8N_WEBHOOK_URL": receiver.url, "WORKER_MAX_IN_FLIGHT": "16"}
    port = "8493"
    serve = [sys.executable, "-m", "granian", "--interface", "wsgi", "--port", port, "--blocking-threads", "4"]
    old_web = Old(old, tmp_path / "old-web.log", *serve, "--no-ws", "config.wsgi:application", **changes)
    old_worker = Old(
        old, tmp_path / "old-worker.log", sys.executable, "manage.py", "procrastinate", "worker", **changes
    )
    new_workers, new_web, load = Workers(tmp_path), None, Load(key)
    try:
        url = f"http://127.0.0.1:{port}"
        until(lambda: answers(url), within=60, what="the old web server")
        load.start(url)
        load.for_a_while()

        # 1. Expand: migrate while the old code works. 2. New code beside it. 3. The old code ends, as it is asked to.
        call_command("migrate", verbosity=0)
        load.for_a_while()
        assert requests.get(f"{url}/readyz", timeout=10).status_code == 200
        new_web = Web(tmp_path, **changes)
        new_workers.start(**changes)
        load.urls.append(new_web.url)
        load.for_a_while(300)
        load.urls.remove(url)
        time.sleep(1)
        assert old_worker.end() == 0
        load.for_a_while()
        assert old_web.end() == 0
        load.for_a_while()
        load.stop()
        until(lambda: not Delivery.objects.exclude(state="delivered").exists(), within=90, what="the backlog")
    finally:
        load.stop()
        for one in (old_web, old_worker):
            one.process.kill()
        new_workers.end_all()
        if new_web is not None:
            new_web.kill()
    assert set(load.answers) == {201}, (load.answers, old_web.log.read_text()[-2000:])
    assert {str(pk) for pk in Delivery.objects.values_list("pk", flat=True)} == load.accepted
    assert not DeadLetter.objects.exists()
    assert set(receiver.keys.values()) == {1}
    assert len({one.headers.get("x-request-id") for one in receiver.got}) > 1


def answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/healthz", timeout=2).status_code == 200
    except requests.RequestException:
        return False
