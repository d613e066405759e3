"""Ten thousand dead letters of one failure group: replayed from the overview, and with every worker killed amid it."""

from collections import Counter
from datetime import timedelta
from itertools import count

import pytest
from django.db.models import Count

from reliability.bulk import operations
from reliability.core import clock
from reliability.core.audit import Actor
from reliability.dead_letters.filters import DeadLetterFilter
from reliability.lanes import opening
from reliability.models import Attempt, AuditEntry, DeadLetter, Delivery, FailureGroup, Operation, OperationKind

from ..support.receiver import until

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]
MANY, RATE = 10_000, 100
# Real clicks alone: a key press or a script that submits a form makes a click without a pointer.
COUNT_CLICKS = """
addEventListener("click", (event) => { if (event.isTrusted && event.detail > 0) window.clicked(); }, true);
"""


@pytest.fixture
def group(workflow) -> FailureGroup:
    """Ten thousand that failed the same way, and one that failed otherwise."""
    made = workflow("echo", concurrency_limit=20, max_retries=5, timeout_ms=1000, circuit_breaker_threshold=100_000)
    lane, now = opening.open_lane(workflow_id=made.pk, tenant="default"), clock.now()
    kind = {"error_code": "http_502", "reason": "http_5xx", "fingerprint": "f" * 16, "error_message": "502 from n8n"}
    moments = {"created_at": now, "died_at": now, "expires_at": now + timedelta(days=1)}
    many = [DeadLetter(lane=lane, source="api", payload=f'{{"n": {n}}}', **kind, **moments) for n in range(MANY)]
    other = DeadLetter(lane=lane, source="api", payload="{}", error_code="other", fingerprint="0" * 16, **moments)
    DeadLetter.objects.bulk_create([*many, other], batch_size=1000)
    return FailureGroup.objects.get(fingerprint="f" * 16, dead=MANY)


def test_from_the_overview_to_ten_thousand_being_replayed_in_few_clicks(console, group, receiver, workers):
    for _ in range(2):
        workers.start(N8N_WEBHOOK_URL=receiver.url)
    shown, clicks = console("operator"), count()
    page = shown.page
    page.expose_function("clicked", lambda: next(clicks))
    page.add_init_script(COUNT_CLICKS)
    shown.go("/admin/")

    page.get_by_role("row").filter(has_text="502 from n8n").get_by_role("link", name="Replay group").click()
    page.get_by_label("Type 10000 to confirm").fill("10000")
    page.get_by_role("textbox", name="Reason").fill("the vendor is back")
    page.get_by_role("button", name="Replay 10,000").click()
    page.wait_for_url("**/operation/*-*/")

    operation = Operation.objects.get()
    assert (operation.state, operation.matched, operation.filter["fingerprint"]) == ("running", MANY, "f" * 16)
    assert AuditEntry.objects.get(action="bulk_replay").count == MANY
    receiver.wait_for(25, within=60)
    until(lambda: int(page.locator("#bs-recovered").inner_text()) >= 10, within=30, what="those recovered, on the page")
    made = next(clicks)
    assert 1 <= made <= 4, made
    assert set(receiver.keys.values()) == {1}
    assert not shown.complaints


def test_ten_thousand_keep_their_rate_and_survive_every_worker_being_killed(group, receiver, workers):
    receiver.always(wait=0.01)
    actor, selection = Actor("user:anna", "the vendor is back"), DeadLetterFilter(fingerprint="f" * 16)
    running = [workers.start(N8N_WEBHOOK_URL=receiver.url) for _ in range(2)]
    operation = operations.submit(
        kind=OperationKind.REPLAY, selection=selection, actor=actor, now=clock.now(), rate_per_second=RATE
    )
    until(lambda: len(receiver.got) >= MANY // 2, within=120, what="the first half")
    for one in running:
        workers.kill(one)
    before = len(receiver.got)
    for _ in range(2):
        workers.start(N8N_WEBHOOK_URL=receiver.url)
    until(lambda: over(operation), within=180, what="the operation's end")

    assert (operation.state, operation.done, operation.skipped) == ("done", MANY, 0)
    assert (operation.ends.recovered, operation.ends.failed, operation.ends.withdrawn) == (MANY, 0, 0)
    assert DeadLetter.objects.filter(status="recovered").count() == MANY
    each_once(receiver.keys)
    first = list({one.key: one.at for one in reversed(receiver.got)}.values())[::-1]
    for times in (sorted(first)[:before], sorted(first)[before:]):
        rate = (len(times) - 1) / (times[-1] - times[0])
        assert 0.9 * RATE <= rate <= 1.1 * RATE, rate


def over(operation: Operation) -> bool:
    operation.refresh_from_db()
    return bool(operation.finished_at) and not operation.next_at


def each_once(keys: Counter[str]) -> None:
    """Each has one replay; what came twice was in a killed worker's hands, and came under its own key again."""
    replays = Delivery.objects.filter(source="replay").values("dead_letter").annotate(times=Count("id"))
    assert [one["times"] for one in replays] == [1] * MANY
    assert set(keys) == set(Delivery.objects.filter(source="replay").values_list("idempotency_key", flat=True))
    assert len(keys) == MANY
    cut_off = Attempt.objects.filter(result="interrupted").values_list("delivery__idempotency_key", flat=True)
    twice = {key for key, times in keys.items() if times > 1}
    assert twice <= set(cut_off)
    assert sum(keys.values()) <= MANY + len(cut_off)
