"""Stripe's events through a real web server and a real worker."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from reliability.core import clock
from reliability.core.audit import Actor
from reliability.lanes import flags
from reliability.models import Delivery, StripeEvent, StripeRepeat

from ..support import stripe
from ..support.receiver import Reply, until
from ..support.web import Web

pytestmark = pytest.mark.django_db(transaction=True)
ACTOR = Actor("test", "because")


@pytest.fixture
def web(tmp_path):
    made = Web(tmp_path, STRIPE_WEBHOOK_SECRET=f"whsec_of-before,{stripe.SECRET}")
    yield made
    made.end()


def post(web: Web, body: bytes, **signing) -> requests.Response:
    headers = {"Stripe-Signature": stripe.sign(body, **signing), "Content-Type": "application/json"}
    return requests.post(f"{web.url}/stripe/webhook/", data=body, headers=headers, timeout=30)


def test_an_event_reaches_its_workflow_untouched_and_once(web, workflow, receiver, workers):
    workflow("billing", stripe_events=["invoice.*"])
    workers.start(N8N_WEBHOOK_URL=receiver.url)
    body = stripe.event()
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: post(web, body), range(64)))
    assert {one.status_code for one in answers} == {200}
    assert sorted(one.json()["duplicate"] for one in answers) == [False] + [True] * 63
    (got,) = receiver.wait_for(1)
    time.sleep(1)
    assert len(receiver.got) == 1
    assert (got.body, got.key) == (body, "evt_1NG8Du2eZvKYlo2CUI79vXWy")
    assert "x-backstop-stale" not in got.headers
    assert (StripeEvent.objects.count(), StripeRepeat.objects.count()) == (1, 63)


def test_an_older_event_that_comes_late_says_so_with_each_attempt(web, workflow, receiver, workers):
    workflow("billing", stripe_events=["*"])
    receiver.rule = lambda got: Reply(500 if got.key == "evt_old" and got.headers["x-backstop-attempt"] == "1" else 200)
    workers.start(N8N_WEBHOOK_URL=receiver.url)
    post(web, stripe.event(id="evt_new", created=1_700_000_001))
    receiver.wait_for(1)
    post(web, stripe.event(id="evt_old", created=1_700_000_000))
    receiver.wait_for(3)
    assert [one.headers.get("x-backstop-stale") for one in receiver.got] == [None, "true", "true"]


def test_what_is_switched_off_is_not_lost_for_stripe_sends_again(web, workflow, receiver, workers):
    workflow("billing", stripe_events=["*"])
    workers.start(N8N_WEBHOOK_URL=receiver.url)
    flags.switch_off(name="stripe", actor=ACTOR, now=clock.now())
    refused = post(web, stripe.event())
    assert refused.status_code == 503
    assert int(refused.headers["Retry-After"]) > 0
    flags.switch_on(name="stripe", actor=ACTOR, now=clock.now())
    assert post(web, stripe.event()).json() == {"received": True, "duplicate": False}
    receiver.wait_for(1)


@pytest.mark.parametrize("after", [5, 40])
def test_a_server_killed_among_events_keeps_each_that_it_answered(tmp_path, workflow, after):
    workflow("billing", stripe_events=["*"])
    kept: list[str] = []
    web = Web(tmp_path, STRIPE_WEBHOOK_SECRET=stripe.SECRET)
    with ThreadPoolExecutor(8) as pool:
        for number in range(200):
            pool.submit(_send, web, f"evt_{number}", kept)
        until(lambda: len(kept) >= after)
        web.kill()
    assert len(kept) < 200
    rows = set(StripeEvent.objects.values_list("event_id", flat=True))
    assert set(kept) <= rows
    assert set(Delivery.objects.values_list("idempotency_key", flat=True)) == rows  # both or none


def _send(web: Web, name: str, kept: list[str]) -> None:
    try:
        if post(web, stripe.event(id=name)).status_code == 200:
            kept.append(name)
    except requests.RequestException:
        return  # the server is gone: Stripe would send it again
