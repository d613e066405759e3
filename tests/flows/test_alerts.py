"""From what is wrong to who is told: a ping of `alerts`, a worker's check, a message; and again once it is over."""

import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client

from reliability.alerts import check as alert_check
from reliability.alerts import notices
from reliability.core import clock
from reliability.core.audit import Actor
from reliability.lanes import breakers
from reliability.models import Alert, AlertNotice, Breaker, BreakerTransition
from scheduling.models import CronJob, Run

from ..support.mail import MailServer
from ..support.receiver import Receiver, until

pytestmark = pytest.mark.django_db(transaction=True)
PING = {"Authorization": "Bearer a-cron-secret"}


@pytest.fixture
def hook():
    made = Receiver().start()
    yield made
    made.stop()


@pytest.fixture
def post_office():
    made = MailServer()
    yield made
    made.hanging = False
    made.stop()


@pytest.fixture
def ping(settings):
    settings.CRON_SECRET = "a-cron-secret"
    CronJob.objects.get_or_create(builtin="alerts", defaults={"slug": "alerts", "name": "alerts"})
    CronJob.objects.exclude(builtin="alerts").update(enabled=False)

    def send(key: str) -> None:
        answer = Client().post("/cron/alerts/", headers={**PING, "Idempotency-Key": key})
        assert answer.status_code == 202
        until(lambda: Run.objects.get(key=key).finished_at, what="the check's end")
        assert Run.objects.get(key=key).error == ""

    return send


def texts(hook: Receiver) -> list[str]:
    return [got.json["text"].partition("\n")[0] for got in hook.got]


def test_an_open_breaker_is_told_and_that_it_closed(workflow, accept, receiver, hook, post_office, ping, workers):
    """The mail server hangs all the while, and holds nothing up."""
    workflow(circuit_breaker_threshold=2, max_retries=0)
    receiver.always(500)
    post_office.hanging = True
    for n in range(3):
        accept({"n": n})
    workers.start(
        ALERT_WEBHOOK_URL=f"http://127.0.0.1:{hook.port}/hook",
        ALERT_EMAILS="ada@example.com",
        EMAIL_URL=post_office.url,
        N8N_WEBHOOK_URL=receiver.url,
    )
    until(lambda: Breaker.objects.filter(state="open").exists(), what="the breaker's opening")
    ping("one")
    assert Alert.objects.get(name="BreakerOpen").state == "pending"
    assert texts(hook) == []
    # Its minute is not waited for: it began a minute ago.
    BreakerTransition.objects.update(at=clock.now() - timedelta(minutes=2))
    ping("two")
    until(lambda: len(hook.got) == 1, what="the message")
    assert texts(hook) == ["[Backstop] Firing: BreakerOpen"]
    assert "http_500" in hook.got[0].json["text"]
    ping("three")
    breaker = Breaker.objects.get(state="open")
    receiver.always(200)
    breakers.reset(breaker_id=breaker.pk, actor=Actor("user:ada", "mended"), now=clock.now())
    ping("four")
    until(lambda: len(hook.got) == 2, what="the second message")
    assert texts(hook)[1] == "[Backstop] Resolved: BreakerOpen"
    post_office.hanging = False
    tries = AlertNotice.objects.filter(channel="mail", attempts__gte=1)
    until(lambda: tries.count() == 2, within=60, what="tries by mail")  # the first waits for its timeout


def test_workers_and_commands_at_once_tell_it_once(hook, ping, workers, settings):
    settings.ALERT_WEBHOOK_URL = f"http://127.0.0.1:{hook.port}/hook"
    now = clock.now()
    values = {"severity": "warning", "value": 1, "limit": 1, "checked_at": now, "told": "firing"}
    for n in range(5):
        Alert.objects.create(name="BacklogOld", workflow=f"w{n}", state="firing", firing_since=now, **values)
    for _ in range(2):
        workers.start(ALERT_WEBHOOK_URL=settings.ALERT_WEBHOOK_URL)
    gate = threading.Barrier(3)

    def check() -> None:
        try:
            gate.wait(timeout=20)
            alert_check.check(now=clock.now())
            notices.send_due(now=clock.now())
        finally:
            connection.close()

    threads = [threading.Thread(target=check) for _ in range(3)]
    for one in threads:
        one.start()
    ping("one")
    for one in threads:
        one.join(timeout=60)
    until(lambda: not AlertNotice.objects.filter(state="waiting").exists(), what="the last notice")
    told = [(line["workflow"], line["change"]) for one in AlertNotice.objects.all() for line in one.changes]
    assert sorted(told) == [(f"w{n}", "resolved") for n in range(5)]
    assert len(hook.keys) == len(hook.got) == AlertNotice.objects.count()
