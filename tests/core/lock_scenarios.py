"""What locks rows of several tables: one transaction each, on two lanes whose ids and slugs are in opposite orders."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.db import connection

from reliability.bulk import operations, steps
from reliability.core import clock
from reliability.core.audit import Actor
from reliability.dead_letters import purge, replay
from reliability.dead_letters.filters import DeadLetterFilter
from reliability.delivery import control, dispatch, intake
from reliability.delivery.intake import Trigger
from reliability.lanes import breakers, flags, opening, slots
from reliability.lanes.lane_lock import SKIP_LOCKED
from reliability.lanes.messages import Sent
from reliability.models import (
    DeadLetter,
    DeadLetterSource,
    Delivery,
    Lane,
    OperationKind,
    StripeEndpoint,
    Workflow,
    digest_of,
)
from reliability.models.ids import uuid7
from reliability.n8n import callbacks, workflow_files
from reliability.policies import stripe_event
from reliability.policies.classification import Failure, classify_failure
from reliability.stripe import ledger
from scheduling import jobs
from scheduling.models import CronJob

ACTOR = Actor("operator", "a test")
EVENT = {
    "id": "evt_1",
    "object": "event",
    "type": "invoice.paid",
    "created": 1_700_000_000,
    "livemode": False,
    "api_version": "2025-01-01",
    "data": {"object": {"id": "in_1", "object": "invoice"}},
}


@dataclass
class World:
    """Rows to act on. `low` is the lane of the smaller id, whose workflow's slug comes last."""

    low: Lane
    high: Lane
    endpoint: StripeEndpoint
    letters: list[UUID]
    sent: dict[int, list[Sent]]
    awaiting: UUID
    pending: UUID
    job: CronJob
    operation: UUID


def build() -> World:
    """Make two lanes with dead letters, a delivery that is being sent, one that awaits its callback, one that waits."""
    endpoint, _ = StripeEndpoint.objects.get_or_create(slug="default")
    lanes = []
    for slug in ("b-second", "ba"):  # by most languages' collations the other way round than by code point
        flow = Workflow.objects.create(
            slug=slug,
            name=slug,
            path=slug,
            stripe_events=["invoice.*"],
            concurrency_limit=50,
            on_unknown_outcome="retry",
        )
        lanes.append(opening.open_lane(workflow_id=flow.pk, tenant="default"))
    low, high = sorted(lanes, key=lambda lane: lane.pk)
    letters = [_letter(lane) for lane in (high, low, high, low)]
    job = CronJob.objects.create(slug="locks", name="locks", active_since=clock.now() - timedelta(days=1))
    job.workflows.set(Workflow.objects.filter(slug__in=("b-second", "ba")))
    found = {lane.pk: _send(lane) for lane in lanes}
    pending = _accept("ba", deliver_at=clock.now() + timedelta(hours=1))
    awaiting = _accept("ba")
    Delivery.objects.filter(pk=awaiting).update(
        state="awaiting_callback", attempt_count=1, sent_at=clock.now(), lease_until=clock.now() + timedelta(hours=1)
    )
    made = operations.submit(kind=OperationKind.PURGE, selection=DeadLetterFilter(), actor=ACTOR, now=clock.now())
    breakers.instance()
    return World(low, high, endpoint, letters, found, awaiting, pending, job, made.pk)


def _accept(slug: str, **values: object) -> UUID:
    trigger = Trigger(slug, "{}", digest_of({}), **values)  # type: ignore[arg-type]  # what a test asks for
    return intake.accept(triggers=[trigger], now=clock.now())[0].delivery.pk


def _letter(lane: Lane) -> UUID:
    now = clock.now()
    made = DeadLetter.objects.create(
        lane=lane,
        source=DeadLetterSource.API,
        payload="{}",
        error_code="x",
        error_message="y",
        reason="other",
        fingerprint="f",
        created_at=now,
        died_at=now,
        expires_at=now + timedelta(days=1),
    )
    return made.pk


def _send(lane: Lane) -> list[Sent]:
    """Claim two deliveries, of which one is a replay; both were reset by the other side, and have no retry left."""
    slug = Workflow.objects.get(pk=lane.workflow_id).slug
    for _ in range(2):
        _accept(slug)
    replay.replay(dead_letter_id=_letter(lane), actor=ACTOR, now=clock.now())
    Delivery.objects.filter(lane=lane, state="pending").update(retries_used=99)
    claims = dispatch.run(lane_id=lane.pk, sent=[], capacity=10).claims
    assert len(claims) == 3
    classified = classify_failure(Failure.CONNECTION_RESET, "reset")
    return [Sent(claim, classified, None, clock.now(), 0.1) for claim in claims]


def _triggers(slugs: list[str]) -> list[Trigger]:
    return [Trigger(slug, "{}", digest_of({}), idempotency_key=f"batch-{n}") for n, slug in enumerate(slugs)]


def _instance_id() -> UUID:
    return breakers.instance().pk


def _documents(world: World) -> list[dict[str, object]]:
    return [{"slug": slug, "path": slug, "tenants": {"default": {"timeout_ms": 5000}}} for slug in ("ba", "b-second")]


def _purge(world: World) -> object:
    return purge.purge_each(dead_letter_ids=world.letters, now=clock.now())


def _withdraw(world: World) -> object:
    replay.replay_each(dead_letter_ids=world.letters[:2], now=clock.now() + timedelta(hours=1), operation_id=None)
    return replay.mark_dead_again(dead_letter_ids=world.letters[::-1], now=clock.now())


def _record(world: World) -> object:
    names = {"event": stripe_event.read(EVENT, now=clock.now()), "text": "{}", "endpoint_id": world.endpoint.pk}
    return ledger.record(**names)  # type: ignore[arg-type]  # as above


def _settle_and_take_back(world: World) -> object:
    """Settle one attempt of which the instance's breaker is told, and take back two that lapsed: one is a replay."""
    first, *others = sorted(world.sent[world.low.pk], key=lambda sent: sent.claim.is_replay)
    lapsed = Delivery.objects.filter(pk__in=[sent.claim.delivery_id for sent in others])
    lapsed.update(lease_until=clock.now() - timedelta(seconds=1))
    return dispatch.run(lane_id=world.low.pk, sent=[first], capacity=0, lock_timeout=SKIP_LOCKED)


def _wake_up(world: World) -> object:
    with connection.cursor() as cursor:
        cursor.execute("SELECT backstop_wake(id), backstop_wake_at(id, now()) FROM reliability_lane ORDER BY id DESC")
    return None


SCENARIOS: dict[str, Callable[[World], object]] = {
    "a batch": lambda w: intake.accept(triggers=_triggers(["ba", "b-second"] * 2), now=clock.now()),
    "an event of Stripe": _record,
    "a cron job's run": lambda w: jobs.run_now(job_id=w.job.pk, actor=ACTOR, now=clock.now(), once=uuid7()),
    "wake-ups, in the other order": _wake_up,
    "replays": lambda w: replay.replay_each(dead_letter_ids=w.letters, now=clock.now()),
    "purges, in the other order": lambda w: purge.purge_each(dead_letter_ids=w.letters[::-1], now=clock.now()),
    "replays that are called off": _withdraw,
    "a bulk step": lambda w: steps.step(operation_id=w.operation, now=clock.now()),
    "settling the lower lane": lambda w: dispatch.run(
        lane_id=w.low.pk, sent=w.sent[w.low.pk], capacity=5, lock_timeout=SKIP_LOCKED
    ),
    "settling the higher lane": lambda w: dispatch.run(
        lane_id=w.high.pk, sent=w.sent[w.high.pk], capacity=5, attend=True
    ),
    "settling beside what lapsed": _settle_and_take_back,
    "leaving a lane": lambda w: dispatch.release_lane(lane_id=w.low.pk, needs_barrier=True),
    "a callback": lambda w: callbacks.report(
        delivery_id=w.awaiting,
        completion=callbacks.Completion(succeeded=False, execution_id="77", error="no"),
        now=clock.now(),
    ),
    "a reset of the instance's breaker": lambda w: breakers.reset(
        breaker_id=_instance_id(), actor=ACTOR, now=clock.now()
    ),
    "a reset of a lane's breaker": lambda w: breakers.reset(breaker_id=w.low.breaker.pk, actor=ACTOR, now=clock.now()),
    "a cancellation": lambda w: control.cancel(delivery_id=w.pending, actor=ACTOR, now=clock.now()),
    "a slot": lambda w: slots.acquire(request=slots.SlotRequest(workflow="ba")),
    "a switch": lambda w: flags.switch(name="dispatch", enabled=True, actor=ACTOR, now=clock.now()),
    "a workflow's resuming": lambda w: control.resume(workflow_id=w.low.workflow_id, actor=ACTOR, now=clock.now()),
    "workflow files": lambda w: workflow_files.load(documents=_documents(w), actor=ACTOR, now=clock.now()),
}
