"""Web and worker at LOG_LEVEL=DEBUG: whatever comes in, no payload, key or secret is in what they write."""

import json
import os
import secrets
import time

import pytest
import requests
from django.contrib.auth.models import User

from reliability.core import clock
from reliability.dead_letters import create
from reliability.models import Attempt, Delivery
from scheduling.models import CronJob

from ..support import stripe
from ..support.bodies import failed
from ..support.n8n_api import FakeN8n
from ..support.receiver import Reply
from ..support.web import Web

pytestmark = pytest.mark.django_db(transaction=True)


class Markers(dict):
    """By what each is, a text that nothing else holds."""

    def __missing__(self, name: str) -> str:
        self[name] = f"m4rk3r{secrets.token_hex(8)}"
        return self[name]


@pytest.fixture
def markers():
    return Markers()


@pytest.fixture
def n8n():
    made = FakeN8n()
    yield made
    made.stop()


def test_nothing_that_is_secret_is_written_at_any_level(
    markers, workflow, receiver, workers, n8n, key, tmp_path, settings
):
    one = workflow("echo", auth_header="X-Secret", auth_value=markers["auth value"], max_retries=1)
    workflow("billing", stripe_events=["*"])
    job = CronJob.objects.create(slug="nightly", name="n", schedule="0 3 * * *", payload={"d": markers["cron payload"]})
    job.workflows.add(one)
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.PBKDF2PasswordHasher"]  # the web server's
    User.objects.create_superuser("ada", password=markers["password"])
    receiver.rule = lambda got: Reply(500 if b"fails" in got.body else 200, markers["n8n's answer"])
    given = {
        "LOG_LEVEL": "DEBUG",
        "ACCESS_LOG": "true",
        "DEBUG": "true",
        "CRON_SECRET": markers["cron secret"],
        "STRIPE_WEBHOOK_SECRET": f"whsec_{markers['stripe secret']}",
        "N8N_WEBHOOK_URL": receiver.url,
        "N8N_API_URL": n8n.url,
        "N8N_API_KEY": markers["n8n key"],
    }
    markers["secret key"] = os.environ["SECRET_KEY"]
    web = Web(tmp_path, **given)
    worker = workers.start(**given)
    try:
        _api(web, markers, key(name="all"))
        _cron(web, markers)
        _stripe(web, markers)
        _console(web, markers)
        _attempted()
    finally:
        web.end()
        workers.end(worker)
    written = web.log.read_text() + worker.log.read_text()
    assert "attempt" in written
    assert "/api/v1/deliveries/" in written
    assert {name for name, text in markers.items() if text in written} == set()


def _api(web, markers, plain):
    markers["api key"] = plain
    markers["api key's secret part"] = plain[12:]
    url, headers = f"{web.url}/api/v1", {"Authorization": f"Bearer {plain}"}

    def post(path, body, **more):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return requests.post(url + path, data=data, headers={**headers, **more}, timeout=30)

    payload = {"card": markers["payload"]}
    assert post("/deliveries/", {"workflow": "echo", "payload": payload}).status_code == 201
    assert post("/deliveries/", {"workflow": "echo", "payload": {**payload, "x": "fails"}}).status_code == 201
    assert post("/deliveries/batch/", {"deliveries": [{"workflow": "echo", "payload": payload}]}).status_code == 201
    bad = markers["a bad payload"]
    for body in (
        b'{"workflow": "echo", "payload": {"a": "' + bad.encode() + b'"',
        {"workflow": "echo", "payload": bad},
        {"workflow": bad, "payload": {bad: bad}},
        {"workflow": "echo", "payload": {}, "tenant": bad + " !"},
        {"workflow": "echo", "payload": {"a": bad + chr(0)}},
        {"workflow": "echo", "payload": {}, bad: bad},
    ):
        assert post("/deliveries/", body).status_code == 400
    assert post("/dead-letters/", {"workflow": "echo", "payload": payload, "error_message": bad}).status_code == 201
    assert post("/executions/failed/", failed("7", message=markers["a reported error"])).status_code == 201
    asked = {"params": {"cursor": markers["query"]}, "headers": headers, "timeout": 30}
    assert requests.get(f"{url}/deliveries/", **asked).status_code == 400
    wrong = "bsk_" + markers["a wrong key"]
    for given in ({"Authorization": f"Bearer {wrong}"}, {"X-API-Key": wrong}, {"Authorization": f"Basic {wrong}"}):
        assert requests.get(f"{url}/deliveries/", headers=given, timeout=30).status_code == 401
    assert post("/workflows/echo/secrets/", {"auth_value": markers["auth value"]}).status_code == 200
    made = post("/api-keys/", {"name": "n"})
    markers["a new key"] = made.json()["key"]


def _cron(web, markers):
    secret = markers["cron secret"]
    for method in ("get", "post"):
        call = getattr(requests, method)
        assert call(f"{web.url}/cron/nightly/?secret={secret}", timeout=30).ok
        assert call(f"{web.url}/cron/nightly/?secret={markers['a wrong secret']}", timeout=30).status_code == 403
        assert call(f"{web.url}/cron/nightly/", headers={"X-Cron-Secret": secret}, timeout=30).ok
    assert requests.post(f"{web.url}/cron/nowhere/?secret={secret}", timeout=30).status_code == 404


def _stripe(web, markers):
    url, signing = f"{web.url}/stripe/webhook/", f"whsec_{markers['stripe secret']}"
    body = stripe.event(id="evt_1").replace(b"{", b'{"m": "' + markers["event"].encode() + b'", ', 1)
    signed = {"Stripe-Signature": stripe.sign(body, secret=signing)}
    assert requests.post(url, data=body, headers=signed, timeout=30).status_code == 200
    forged = {"Stripe-Signature": stripe.sign(body, secret="whsec_" + markers["a forger's"])}
    assert requests.post(url, data=body, headers=forged, timeout=30).status_code == 400
    broken = body[:-5]
    signed = {"Stripe-Signature": stripe.sign(broken, secret=signing)}
    assert requests.post(url, data=broken, headers=signed, timeout=30).status_code == 400


def _console(web, markers):
    session = requests.Session()
    login = f"{web.url}/admin/login/"
    session.get(login, timeout=30)
    for password in (markers["a wrong password"], markers["password"]):
        values = {"username": "ada", "password": password, "csrfmiddlewaretoken": session.cookies["csrftoken"]}
        answer = session.post(login, data=values, headers={"Referer": login}, timeout=30)
    assert answer.ok
    markers["session"] = session.cookies["sessionid"]
    for path in ("", "reliability/delivery/", "reliability/deadletter/", "reliability/workflow/", "nowhere/"):
        session.get(f"{web.url}/admin/{path}", timeout=60)
    for made in Delivery.objects.all()[:3]:
        session.get(f"{web.url}/admin/reliability/delivery/{made.pk}/change/", timeout=60)
    report = create.Report("echo", "default", json.dumps({"a": markers["a letter"]}), markers["a letter's error"])
    letter = create.from_api(report=report, now=clock.now())
    assert session.get(f"{web.url}/admin/reliability/deadletter/{letter.pk}/change/", timeout=60).ok


def _attempted():
    """Wait until the worker has sent something that n8n took, and something that it refused."""
    deadline = time.monotonic() + 60
    wanted = {"delivered", "transient"}
    while not wanted <= set(Attempt.objects.values_list("result", flat=True)):
        assert time.monotonic() < deadline
        time.sleep(0.2)
