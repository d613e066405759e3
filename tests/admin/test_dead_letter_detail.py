"""The page of a dead letter, by what a viewer, an operator and a lead meet."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from reliability.bulk import operations, steps
from reliability.core import clock
from reliability.core.audit import Actor
from reliability.dead_letters import replay
from reliability.dead_letters.filters import DeadLetterFilter
from reliability.models import (
    Archive,
    Attempt,
    Breaker,
    BreakerState,
    DeadLetter,
    Delivery,
    ExecutionRetry,
    FailureGroup,
    FailureReport,
    Operation,
    StripeEndpoint,
    StripeEvent,
)
from reliability.models.ids import uuid7

from .dead_letters import LIST, NASTY, RTL, act_of, page_of, signed_in


def test_the_page_says_what_why_and_what_happened(delivered_badly):
    letter = delivered_badly(slug="echo")
    FailureGroup.objects.update_or_create(
        workflow=letter.lane.workflow,
        fingerprint="abc",
        defaults={"reason": "http_5xx", "dead": 7, "seen": 9, "first_at": clock.now(), "last_at": clock.now()},
    )
    text = signed_in("viewers").get(page_of(letter)).content.decode()
    assert "HTTP 5xx · <bdi>http_502</bdi>" in text
    assert "3 attempts over 20 min" in text
    assert "6 other dead letters failed the same way" in text
    assert "fingerprint=abc" in text
    assert "no response" in text
    assert "9 min before the next attempt" in text
    assert "The workflow is paused" in text
    assert text.index("#3") < text.index("#2") < text.index("#1")
    assert text.index("zebra") < text.index("apple")
    assert "2.50" in text or "2.5" in text


def test_hostile_text_is_shown_and_does_nothing(delivered_badly):
    letter = delivered_badly({"</script><script>alert(1)</script>": NASTY, "a\"b'c": RTL}, auth_value="s3cret")
    client = signed_in()
    for address in (LIST, page_of(letter), act_of(letter, "edit"), act_of(letter, "replay")):
        text = client.get(address).content.decode()
        assert "<img src=x" not in text
        assert "<script>alert" not in text
        assert "s3cret" not in text
    assert RTL not in client.get(page_of(letter)).content.decode().partition("data-copy")[0]


def test_a_link_to_n8n_is_a_web_address_or_none(bury):
    bad = bury(execution_id="1", execution_url="javascript:alert(1)")
    good = bury(execution_id="2", execution_url="https://n8n.example.com/workflow/1/executions/2")
    client = signed_in("viewers")
    assert "javascript:" not in client.get(page_of(bad)).content.decode()
    assert f'href="{good.execution_url}"' in client.get(page_of(good)).content.decode()


def test_ten_megabytes_and_deep_nesting_are_cut_with_a_way_to_the_whole(bury):
    long = '{"a": "' + "x" * 10_000_000 + '"}'
    letter, deep = bury(long), bury("[" * 100 + "]" * 100)
    client = signed_in()
    text = client.get(page_of(letter)).content.decode()
    assert len(text) < 500_000
    assert "Show all" in text
    assert "too long to edit here" in text
    assert "@payload.json" in text
    whole = client.get(f"{LIST}{letter.pk}/payload/")
    assert whole.content.decode() == long
    assert whole["Content-Type"].startswith("text/plain")
    assert "sandbox" in whole["Content-Security-Policy"]
    assert client.get(page_of(deep)).status_code == 200


def test_an_attempts_whole_answer_is_its_own_letters_alone(delivered_badly, bury):
    letter, other = delivered_badly(), bury()
    attempt = Attempt.objects.first()
    client = signed_in("viewers")
    assert "filler" in client.get(f"{LIST}{letter.pk}/attempts/{attempt.pk}/").content.decode()
    assert client.get(f"{LIST}{other.pk}/attempts/{attempt.pk}/").status_code == 404
    assert client.get(f"{LIST}{uuid7()}/payload/").status_code == 404
    assert client.get(f"{LIST}nonsense/change/").status_code == 404


def test_what_cannot_be_done_is_disabled_and_says_why(bury, settings):
    settings.N8N_API_KEY = ""
    dead, purged = bury(), bury(status="recovered")
    text = signed_in("viewers").get(page_of(dead)).content.decode()
    assert "You need the permission reliability.replay_deadletter" in text
    assert "You need the permission reliability.purge_deadletter" in text
    text = signed_in("leads").get(page_of(dead)).content.decode()
    assert f"{act_of(dead, 'edit')}?stay=1" in text
    assert "n8n reported no execution" in text
    text = signed_in("leads").get(page_of(purged)).content.decode()
    assert "this one is recovered" in text
    reported = bury(source="n8n", execution_id="12")
    text = signed_in("leads").get(page_of(reported)).content.decode()
    assert "Set N8N_API_KEY" in text
    assert "there is no webhook payload to edit" in text


def test_a_purge_is_undone_on_the_page(bury):
    letter, client = bury(), signed_in("leads")
    client.post(f"{act_of(letter, 'purge')}?stay=1", {"confirmed": "1", "reason": "by mistake"})
    assert "Backstop erases the payload" in client.get(page_of(letter)).content.decode()
    assert signed_in("operators").post(act_of(letter, "undo-purge"), {"confirmed": "1"}).status_code == 403
    client.post(f"{act_of(letter, 'undo-purge')}?stay=1", {"confirmed": "1", "reason": "it was wanted"})
    letter.refresh_from_db()
    assert letter.status == "dead"
    assert "it was wanted" in client.get(page_of(letter)).content.decode()


def test_curl_has_the_request_and_no_secret(delivered_badly):
    letter = delivered_badly(
        {"it": "isn't"}, auth_header="X-Auth", auth_value="s3cret", signing_secret="whsec_" + "A" * 32
    )
    buttons = signed_in("viewers").get(page_of(letter)).context["buttons"]
    command = next(one.copies for one in buttons if one.copies)
    assert "s3cret" not in command
    assert "whsec_" not in command
    assert "X-Auth: <SECRET>" in command
    assert "Idempotency-Key: order-1" in command
    assert f"X-Backstop-Delivery: {letter.delivery_id}" in command
    assert f"webhook-id: {letter.delivery_id}" in command
    assert "X-Backstop-Attempt: 3" in command
    assert """--data-binary '{"it": "isn'"'"'t"}'""" in command


def test_reports_retries_and_breakers_are_on_the_page(bury, lane_breaker):
    letter = bury(source="n8n", execution_id="12")
    now = clock.now()
    FailureReport.objects.create(state="buried", dead_letter=letter, execution_id="12", node=NASTY, reported_at=now)
    ExecutionRetry.objects.create(
        dead_letter=letter, execution_id="12", state="failed", error="no", due_at=now, created_at=now
    )
    breaker = lane_breaker()
    breaker.state, breaker.opened_at, breaker.reason = BreakerState.OPEN, now, "10 failures"
    breaker.save()
    client = signed_in("viewers")
    text = client.get(page_of(letter)).content.decode()
    assert "execution retry of" in text
    assert "A replay will wait until it closes" in text
    assert "10 failures" in text
    assert "<img" not in text.partition("Failures reported by n8n</h3>")[2].partition("</section>")[0]
    assert "Replays will wait until it closes" in client.get(LIST).content.decode()


@pytest.fixture
def letter_with_everything(delivered_badly, lane_breaker, settings):
    """A dead letter with all that one can have: of Stripe, reported, replayed by hand, edited and in bulk, retried."""
    settings.N8N_API_URL, settings.N8N_API_KEY = "http://n8n.example.com", "key"
    letter, now = delivered_badly(), clock.now()
    event = {"event_id": "order-1", "tenant": "default", "livemode": True, "type": "invoice.paid"}
    endpoint = StripeEndpoint.objects.create(slug="shop")
    StripeEvent.objects.create(endpoint=endpoint, occurred_at=now, received_at=now, payload="{}", **event)
    Delivery.objects.filter(pk=letter.delivery_id).update(source="stripe")
    actor = Actor("user:ann", "they are back")
    for payload in (None, '{"edited": 1}'):
        new = replay.replay(dead_letter_id=letter.pk, actor=actor, now=now, payload=payload)
        Attempt.objects.create(
            delivery_id=new.delivery_id, number=1, result="transient", code="http_502", started_at=now, duration_ms=5
        )
        Delivery.objects.filter(pk=new.delivery_id).update(state="dead", attempt_count=1, finished_at=now)
        DeadLetter.objects.filter(pk=letter.pk).update(status="dead")
    for kind in ("replay", "purge"):
        bulk_do(kind, actor)
        DeadLetter.objects.filter(pk=letter.pk).update(status="dead")
    values = {"execution_id": "12", "dead_letter": letter}
    FailureReport.objects.create(state="joined", delivery_id=letter.delivery_id, reported_at=now, **values)
    ExecutionRetry.objects.create(state="failed", error="no", due_at=now, created_at=now, **values)
    Breaker.objects.create(scope="instance", state="open", opened_at=now, reason="refused")
    Breaker.objects.filter(pk=lane_breaker().pk).update(state="open", opened_at=now, reason="10 failures")
    return letter


def bulk_do(kind: str, actor: Actor) -> None:
    """Let an operation take all dead letters along."""
    made = operations.submit(kind=kind, selection=DeadLetterFilter(), actor=actor, now=clock.now(), rate_per_second=100)
    steps.step(operation_id=made.pk, now=clock.now())


def test_a_page_takes_few_queries_whatever_a_letter_has(letter_with_everything):
    letter, client = letter_with_everything, signed_in("operators")
    client.get(page_of(letter))
    with CaptureQueriesContext(connection) as taken:
        text = client.get(page_of(letter)).content.decode()
    present = [
        "invoice.paid",
        "n8n instance",
        "10 failures",
        "show changes",
        "execution retry of",
        "Failures reported by n8n",
    ]
    assert [words for words in present if words not in text] == []
    for operation in Operation.objects.all():
        line = f"/admin/reliability/operation/{operation.pk}/"
        assert f"<b>bulk_{operation.kind}</b> by <bdi>user:ann</bdi>" in text
        assert line in text
    assert len(taken) <= 13, "\n".join(one["sql"][:60] + " … " + one["sql"].partition("FROM")[2][:150] for one in taken)


def test_of_an_archived_one_the_page_says_where_its_payload_is(delivered_badly):
    letter = delivered_badly(slug="echo")
    now = clock.now()
    archive = Archive.objects.create(name="dead-letters/2026/11/x", state="kept", lease_until=now, created_at=now)
    DeadLetter.objects.filter(pk=letter.pk).update(status="archived", payload="", closed_at=now, archive=archive)
    text = signed_in().get(page_of(letter)).content.decode()
    assert "The payload is in the archive <code>dead-letters/2026/11/x</code>" in text
    assert "The payload is in the archive." in text
    assert "erased" not in text
