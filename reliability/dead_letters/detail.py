"""Everything the console shows of one dead letter, in at most nine queries. Long texts are cut off in the database."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

from django.db.models import Case, F, OuterRef, QuerySet, Subquery, When
from django.db.models.functions import JSONObject, Left, Length, Now

from reliability.models import (
    Attempt,
    AuditEntry,
    Breaker,
    BreakerState,
    DeadLetter,
    DeadLetterStatus,
    Delivery,
    ExecutionRetry,
    FailureGroup,
    FailureReport,
    Operation,
    Scope,
    Source,
    StripeEvent,
)

from . import history

CHARACTERS_SHOWN = 64 * 1024
OLDER_CHARACTERS_SHOWN = 2 * 1024
ATTEMPTS_SHOWN = 50
ROWS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Text:
    """The beginning of a long text, and the `size` of the whole, in characters.

    `begin` has one character more than is shown where the text is longer: that is how the page knows.
    """

    begin: str
    size: int


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """An attempt, its trigger in words, the time until the next attempt, and the response body."""

    attempt: Attempt
    trigger: str
    wait: timedelta | None
    body: Text
    is_replay: bool


@dataclass(frozen=True, slots=True)
class Replay:
    """A replay's delivery and its actor; `operation` is the bulk operation that it belongs to, if any."""

    delivery: Delivery
    by: str
    is_edited: bool
    operation: Operation | None


@dataclass(frozen=True, slots=True)
class EventSummary:
    """The fields of a delivery's Stripe event that a page shows."""

    id: UUID
    type: str
    livemode: bool


@dataclass(frozen=True, slots=True)
class DeadLetterDetail:
    """What a dead letter's page shows, as of `now`. `others` counts dead letters with the same failure."""

    now: datetime
    letter: DeadLetter
    payload: Text
    event: EventSummary | None
    attempts: Sequence[AttemptRow]
    attempt_count: int
    lasted: timedelta | None
    others: int
    breakers: Sequence[Breaker]
    replays: Sequence[Replay]
    retries: Sequence[ExecutionRetry]
    reports: Sequence[FailureReport]
    actions: Sequence[history.Action]

    @property
    def key(self) -> str:
        return self.letter.delivery.idempotency_key if self.letter.delivery else ""


def with_related() -> "QuerySet[DeadLetter]":
    """Return dead letters joined with their delivery and workflow, without payloads."""
    related = DeadLetter.objects.select_related("lane__workflow", "delivery")
    return related.defer("payload", "delivery__payload", "delivery__payload_digest")


def find(*, dead_letter_id: UUID) -> DeadLetter | None:
    """Return a dead letter, annotated with `begin` and `size` of its payload.

    Subqueries add `event` (the Stripe event), `alike` (dead letters of the same failure group) and `asked_at` (the
    database's time), which saves a query each.
    """
    group = FailureGroup.objects.filter(workflow=OuterRef("lane__workflow"), fingerprint=OuterRef("fingerprint"))
    event = StripeEvent.objects.filter(event_id=OuterRef("delivery__idempotency_key"), tenant=OuterRef("lane__tenant"))
    shown = event.order_by("-id").values(shown=JSONObject(id="id", type="type", livemode="livemode"))[:1]
    found = (
        with_related()
        .select_related("lane__breaker")
        .annotate(
            begin=Left("payload", CHARACTERS_SHOWN + 1),
            size=Length("payload"),
            alike=Subquery(group.values("dead")[:1]),
            event=Case(When(delivery__source=Source.STRIPE, then=Subquery(shown))),
            asked_at=Now(),
        )
    )
    return found.filter(pk=dead_letter_id).first()


def load(*, letter: Any) -> DeadLetterDetail:
    """Load everything that belongs to a dead letter from `find`."""
    audit = list(AuditEntry.objects.filter(target_type="deadletter", target_id=str(letter.pk))[:ROWS_SHOWN])
    sent = list(letter.replays.defer("payload", "payload_digest").order_by("-id")[:ROWS_SHOWN])
    retries = list(letter.execution_retries.all()[:ROWS_SHOWN])
    named = {one.operation_id for one in [*sent, *retries] if one.operation_id}
    operations = history.operations_of(letter=letter, ids=named, alone=audit)
    replays = _replays(sent, audit, operations)
    attempts = _attempt_rows(letter, replays)
    event = letter.event
    deliveries = [*([letter.delivery] if letter.delivery else []), *(one.delivery for one in replays)]
    return DeadLetterDetail(
        now=letter.asked_at,
        letter=letter,
        payload=Text(letter.begin, letter.size),
        event=EventSummary(UUID(event["id"]), event["type"], event["livemode"]) if event else None,
        attempts=attempts,
        attempt_count=sum(one.attempt_count for one in deliveries),
        lasted=attempts[0].attempt.started_at - attempts[-1].attempt.started_at if len(attempts) > 1 else None,
        others=_similar_count(letter),
        breakers=_breakers(letter),
        replays=replays,
        retries=retries,
        reports=_reports(letter),
        actions=history.actions(alone=audit, operations=operations),
    )


def _replays(sent: Sequence[Delivery], audit: Sequence[AuditEntry], operations: Sequence[Operation]) -> list[Replay]:
    actors = {entry.details.get("delivery"): entry.actor for entry in audit if isinstance(entry.details, dict)}
    by_id = {one.pk: one for one in operations}
    made = list[Replay]()
    for one in sent:
        operation = by_id.get(one.operation_id) if one.operation_id else None
        by = operation.actor if operation else actors.get(str(one.pk), "")
        made.append(Replay(one, by, one.idempotency_key == str(one.pk), operation))
    return made


def _attempt_rows(letter: DeadLetter, replays: Sequence[Replay]) -> list[AttemptRow]:
    """Return the newest attempts of the delivery and its replays, newest first."""
    by = {replay.delivery.pk: replay for replay in replays}
    ids = [*([letter.delivery_id] if letter.delivery_id else []), *by]
    if not ids:
        return []
    rows: QuerySet[Any] = Attempt.objects.filter(delivery_id__in=ids).defer("response_body")
    rows = rows.annotate(begin=Left("response_body", CHARACTERS_SHOWN + 1), size=Length("response_body"))
    found = list(rows.order_by("-started_at", "-id")[:ATTEMPTS_SHOWN])
    following: list[Any] = [None, *found]
    return [
        AttemptRow(
            attempt=one,
            trigger=_trigger(one, letter, by.get(one.delivery_id)),
            wait=_time_until(one, after),
            body=Text(one.begin if place == 0 else one.begin[: OLDER_CHARACTERS_SHOWN + 1], one.size),
            is_replay=one.delivery_id in by,
        )
        for place, (after, one) in enumerate(pairwise(following))
    ]


def _time_until(one: Attempt, after: Attempt | None) -> timedelta | None:
    """Return the time from the end of this attempt to the start of the next one of the same delivery."""
    if after is None or after.delivery_id != one.delivery_id:
        return None
    return max(timedelta(), after.started_at - one.started_at - timedelta(milliseconds=one.duration_ms))


def _trigger(attempt: Attempt, letter: DeadLetter, replay: Replay | None) -> str:
    if attempt.probe:
        return "probe of the circuit breaker"
    if attempt.number > 1:
        return "retry"
    if replay is not None:
        kind = "bulk replay" if replay.operation else "replay"
        return f"{kind} by {replay.by.removeprefix('user:')}" if replay.by else kind
    return {"api": "API call", "cron": "cron job", "stripe": "Stripe event"}.get(
        letter.delivery.source if letter.delivery else "", "first delivery"
    )


def _similar_count(letter: Any) -> int:
    if not letter.fingerprint:
        return 0
    alike: int = letter.alike or 0
    return max(0, alike - bool(letter.status == DeadLetterStatus.DEAD))


def _breakers(letter: DeadLetter) -> list[Breaker]:
    """Return the breakers that hold it back: the lane's and the instance's, where they are not closed."""
    own = getattr(letter.lane, "breaker", None)
    if own is not None:
        own.lane = letter.lane
    all_of_n8n = Breaker.objects.filter(scope=Scope.INSTANCE).exclude(state=BreakerState.CLOSED)
    return [one for one in [own, *all_of_n8n] if one is not None and one.state != BreakerState.CLOSED]


def _reports(letter: DeadLetter) -> list[FailureReport]:
    """Return n8n's failure reports about its delivery, or those kept as this dead letter."""
    found = FailureReport.objects.defer("report")
    if letter.delivery_id:
        return list(found.filter(delivery_id=letter.delivery_id).order_by("-id")[:ROWS_SHOWN])
    return list(found.filter(dead_letter_id=letter.pk).order_by(F("id").desc())[:ROWS_SHOWN])
