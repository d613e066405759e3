"""Stripe's events on their way to a real n8n."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from reliability.models import Delivery, StripeRepeat

from ..support import stripe
from ..support.receiver import until
from ..support.web import Web

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]


def test_one_event_sent_64_times_makes_one_execution(n8n, worker, workflow, tmp_path):
    workflow("arrives", timeout_ms=20_000, stripe_events=["invoice.*"])
    web = Web(tmp_path, STRIPE_WEBHOOK_SECRET=stripe.SECRET)
    body = stripe.event()
    before = {one["id"] for one in n8n.executions("e2earrives")}

    def post(_: int) -> bool:
        headers = {"Stripe-Signature": stripe.sign(body), "Content-Type": "application/json; charset=utf-8"}
        answer = requests.post(f"{web.url}/stripe/webhook/", data=body, headers=headers, timeout=30)
        return answer.json()["duplicate"]

    with ThreadPoolExecutor(16) as pool:
        assert sorted(pool.map(post, range(64))) == [False] + [True] * 63
    delivery = until(lambda: Delivery.objects.filter(state="delivered").first(), within=60)
    time.sleep(2)
    (execution,) = [one for one in n8n.executions("e2earrives") if one["id"] not in before]
    assert execution["status"] == "success"
    answer = delivery.attempts.get().response_body
    assert "Café, 2 × seats — €" in answer
    assert "evt_1NG8Du2eZvKYlo2CUI79vXWy" in answer
    assert StripeRepeat.objects.count() == 63
    web.end()
