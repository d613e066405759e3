"""All that is known of one dead letter, for its page: nine queries at most, and no more of a text than is shown."""

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

SHOWN = 64 * 1024
OLDER_SHOWN = 2 * 1024
ATTEMPTS = 50
ROWS = 20


@dataclass(frozen=True, slots=True)
class Text:
    """The beginning of a long text, one character more than is shown where there is more; `size` is the whole's."""

    begin: str
    size: int


@dataclass(frozen=True, slots=True)
class Try:
    """An attempt, who or what triggered it, how long it was until the next one, and what came back."""

    attempt: Attempt
    trigger: str
    wait: timedelta | None
    body: Text
    is_replay: bool


@dataclass(frozen=True, slots=True)
class Replay:
    """A delivery that a replay made, and whose hand it was; `operation` is the one that it went along with."""

    delivery: Delivery
    by: str
    is_edited: bool
    operation: Operation | None


@dataclass(frozen=True, slots=True)
class Event:
    """The event of Stripe that a delivery carries, as far as a page shows it."""

    id: UUID
    type: str
    livemode: bool


@dataclass(frozen=True, slots=True)
class Account:
    """What a dead letter's page shows, as it was at `now`. `others` failed the same way and are dead."""

    now: datetime
    letter: DeadLetter
    payload: Text
    event: Event | None
    tries: Sequence[Try]
    attempt_count: int
    lasted: timedelta | None
    others: int
    breakers: Sequence[Breaker]
    replays: Sequence[Replay]
    retries: Sequence[ExecutionRetry]
    reports: Sequence[FailureReport]
    deeds: Sequence[history.Deed]

    @property
    def key(self) -> str:
        return self.letter.delivery.idempotency_key if self.letter.delivery else ""


def with_its_people() -> "QuerySet[DeadLetter]":
    """Return dead letters with their delivery and workflow, and no payload."""
    related = DeadLetter.objects.select_related("lane__workflow", "delivery")
    return related.defer("payload", "delivery__payload", "delivery__payload_digest")


def find(*, dead_letter_id: UUID) -> DeadLetter | None:
    """Return a dead letter whose `begin` and `size` are its payload's.

    What is one value of another table comes along: `event`, how many are `alike`, and the time, `asked_at`.
    """
    group = FailureGroup.objects.filter(workflow=OuterRef("lane__workflow"), fingerprint=OuterRef("fingerprint"))
    event = StripeEvent.objects.filter(event_id=OuterRef("delivery__idempotency_key"), tenant=OuterRef("lane__tenant"))
    shown = event.order_by("-id").values(shown=JSONObject(id="id", type="type", livemode="livemode"))[:1]
    found = (
        with_its_people()
        .select_related("lane__breaker")
        .annotate(
            begin=Left("payload", SHOWN + 1),
            size=Length("payload"),
            alike=Subquery(group.values("dead")[:1]),
            event=Case(When(delivery__source=Source.STRIPE, then=Subquery(shown))),
            asked_at=Now(),
        )
    )
    return found.filter(pk=dead_letter_id).first()


def take(*, letter: Any) -> Account:
    """Gather what belongs to a dead letter that `find` returned."""
    audit = list(AuditEntry.objects.filter(target_type="deadletter", target_id=str(letter.pk))[:ROWS])
    sent = list(letter.replays.defer("payload", "payload_digest").order_by("-id")[:ROWS])
    retries = list(letter.execution_retries.all()[:ROWS])
    named = {one.operation_id for one in [*sent, *retries] if one.operation_id}
    operations = history.operations_of(letter=letter, ids=named, alone=audit)
    replays = _replays(sent, audit, operations)
    tries = _tries(letter, replays)
    return Account(
        now=letter.asked_at,
        letter=letter,
        payload=Text(letter.begin, letter.size),
        event=_event(letter.event),
        tries=tries,
        attempt_count=_attempts(letter, replays),
        lasted=tries[0].attempt.started_at - tries[-1].attempt.started_at if len(tries) > 1 else None,
        others=_others(letter),
        breakers=_breakers(letter),
        replays=replays,
        retries=retries,
        reports=_reports(letter),
        deeds=history.deeds(alone=audit, operations=operations),
    )


def _replays(sent: Sequence[Delivery], audit: Sequence[AuditEntry], operations: Sequence[Operation]) -> list[Replay]:
    hands = {entry.details.get("delivery"): entry.actor for entry in audit if isinstance(entry.details, dict)}
    with_others = {one.pk: one for one in operations}
    made = list[Replay]()
    for one in sent:
        operation = with_others.get(one.operation_id) if one.operation_id else None
        by = operation.actor if operation else hands.get(str(one.pk), "")
        made.append(Replay(one, by, one.idempotency_key == str(one.pk), operation))
    return made


def _attempts(letter: DeadLetter, replays: Sequence[Replay]) -> int:
    made = [letter.delivery] if letter.delivery else []
    return sum(one.attempt_count for one in [*made, *(replay.delivery for replay in replays)])


def _tries(letter: DeadLetter, replays: Sequence[Replay]) -> list[Try]:
    """Return the newest attempts of the delivery and of its replays, newest first."""
    by = {replay.delivery.pk: replay for replay in replays}
    ids = [*([letter.delivery_id] if letter.delivery_id else []), *by]
    if not ids:
        return []
    rows: QuerySet[Any] = Attempt.objects.filter(delivery_id__in=ids).defer("response_body")
    rows = rows.annotate(begin=Left("response_body", SHOWN + 1), size=Length("response_body"))
    found = list(rows.order_by("-started_at", "-id")[:ATTEMPTS])
    following: list[Any] = [None, *found]
    return [
        Try(
            attempt=one,
            trigger=_trigger(one, letter, by.get(one.delivery_id)),
            wait=_between(one, after),
            body=Text(one.begin if place == 0 else one.begin[: OLDER_SHOWN + 1], one.size),
            is_replay=one.delivery_id in by,
        )
        for place, (after, one) in enumerate(pairwise(following))
    ]


def _between(one: Attempt, after: Attempt | None) -> timedelta | None:
    """Return how long it was from this attempt's end to the next one of the same delivery."""
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


def _others(letter: Any) -> int:
    if not letter.fingerprint:
        return 0
    alike: int = letter.alike or 0
    return max(0, alike - bool(letter.status == DeadLetterStatus.DEAD))


def _breakers(letter: DeadLetter) -> list[Breaker]:
    """Return those of its breakers that hold something back: the lane's, and the instance's."""
    own = getattr(letter.lane, "breaker", None)
    if own is not None:
        own.lane = letter.lane
    all_of_n8n = Breaker.objects.filter(scope=Scope.INSTANCE).exclude(state=BreakerState.CLOSED)
    return [one for one in [own, *all_of_n8n] if one is not None and one.state != BreakerState.CLOSED]


def _reports(letter: DeadLetter) -> list[FailureReport]:
    """Return what n8n reported: of its delivery, or what was buried as this dead letter."""
    found = FailureReport.objects.defer("report")
    if letter.delivery_id:
        return list(found.filter(delivery_id=letter.delivery_id).order_by("-id")[:ROWS])
    return list(found.filter(dead_letter_id=letter.pk).order_by(F("id").desc())[:ROWS])


def _event(shown: dict[str, Any] | None) -> Event | None:
    return Event(UUID(shown["id"]), shown["type"], shown["livemode"]) if shown else None
