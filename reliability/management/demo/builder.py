"""The demo's rows as they come together, and the way of one delivery among them."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from django.conf import settings
from django.db import connection, models

from reliability.models import (
    Attempt,
    AttemptResult,
    AuditEntry,
    DeadLetter,
    DeadLetterSource,
    DeadLetterStatus,
    Delivery,
    DeliveryState,
    Lane,
    Source,
    Workflow,
    digest_of,
)
from reliability.policies import backoff
from reliability.policies.error_codes import reason_of
from reliability.policies.fingerprint import fingerprint_of

from .fixtures import Role, Trouble
from .rng import Rng

M = TypeVar("M", bound=models.Model)
# The demo's dead letters stay for a look, however short the time they would have.
KEPT = timedelta(days=14)
# The database counts failures when a transaction commits; this has it done before.
APPLY_COUNTS = "SET CONSTRAINTS backstop_outbox_apply IMMEDIATE"
HEADERS = {"content-type": "application/json; charset=utf-8", "x-powered-by": "n8n"}


@dataclass(frozen=True, slots=True)
class Wish:
    """A delivery to write: what came, when, and how the tries go before it is delivered (or, `dies`, is not)."""

    role: Role
    tenant: str
    at: datetime
    payload: dict[str, Any]
    key: str
    fails: Sequence[Trouble] = ()
    dies: bool = False
    waits: bool = False
    not_before: datetime | None = None
    source: str = ""


class Builder:
    """All rows of the demo: made in memory, then kept in the order in which they depend on each other."""

    def __init__(self, *, now: datetime, seed: int) -> None:
        self.now = now
        self.start = now - timedelta(days=7)
        self.dice = Rng(seed=seed)
        self.workflows: dict[str, Workflow] = {}
        self.lanes: dict[tuple[str, str], Lane] = {}
        self.rows: dict[type[models.Model], list[models.Model]] = defaultdict(list)
        self.letters: list[DeadLetter] = []
        self._number = 10_400

    def add(self, row: M) -> M:
        self.rows[type(row)].append(row)
        return row

    def next_number(self) -> int:
        self._number += 1
        return self._number

    def save(self) -> None:
        """Keep what was added. Deliveries and dead letters name each other, which the database checks at the end."""
        attempts: Any = self.rows[Attempt]
        attempts.sort(key=lambda one: one.started_at)
        entries: Any = self.rows[AuditEntry]
        entries.sort(key=lambda one: one.at)
        fates = {one.pk: one.status for one in self.letters}
        for one in self.letters:
            one.status = DeadLetterStatus.DEAD
        for model, rows in self.rows.items():
            model._default_manager.bulk_create(rows, batch_size=1000)
            if any(one.name == "created_at" and getattr(one, "auto_now_add", False) for one in model._meta.fields):
                _date_back(model, rows)
        self._create_or_replay(fates)

    def _create_or_replay(self, fates: dict[UUID, str]) -> None:
        """Let every dead letter have been dead first: the database counts them into groups and charts as they die."""
        for one in self.letters:
            one.status = fates[one.pk]
        moved = [one for one in self.letters if one.status != DeadLetterStatus.DEAD]
        DeadLetter.objects.bulk_update(moved, ["status"])
        with connection.cursor() as cursor:
            cursor.execute(APPLY_COUNTS)

    def lane(self, role: Role, tenant: str) -> Lane:
        return self.lanes[role.slug, tenant]

    # --- One delivery --------------------------------------------------------------------------------------
    def deliver(self, wish: Wish) -> Delivery:
        """Write a delivery with its attempts; what would lie ahead of `now` is still to come."""
        made = self.add(_accepted(self, wish))
        at = max(wish.at + timedelta(milliseconds=self.dice.number(4, 60)), wish.not_before or wish.at)
        for trouble in wish.fails:
            if at >= self.now:
                break
            at = self._fail(made, trouble, at)
        else:
            if not wish.dies and not wish.waits and at < self.now:
                return self._succeed(made, wish.role, at)
        if wish.dies and made.attempt_count == len(wish.fails):
            return self._die(made, wish.fails[-1])
        made.due_at = max(at, made.due_at)
        return made

    def _fail(self, made: Delivery, trouble: Trouble, at: datetime) -> datetime:
        """Write a failed attempt; return when the next one is due."""
        number = self.dice.number(1000, 9999)
        took = trouble.took_ms if trouble.took_ms > 20_000 else self.dice.took(trouble.took_ms)
        error = trouble.message.replace("{n}", str(number))
        self._attempt(made, trouble.result, at, took, trouble, error, trouble.body.replace("{n}", str(number)))
        made.last_error = f"{trouble.code}: {error}"
        wait = backoff.delay(
            k=min(made.retries_used, 10),
            base_delay_ms=settings.N8N_BASE_DELAY_MS,
            max_delay_ms=settings.N8N_MAX_DELAY_MS,
            jitter_factor=settings.N8N_JITTER_FACTOR,
            jitter=self.dice.share(),
        )
        made.retries_used += not (trouble.free or trouble.final)
        return at + timedelta(milliseconds=took) + wait

    def _succeed(self, made: Delivery, role: Role, at: datetime) -> Delivery:
        reports = role.policy.get("completion") == "callback"
        took = self.dice.took(90 if reports else role.typical_ms)
        self._attempt(made, AttemptResult.DELIVERED, at, took, None, "", '{"ok":true}')
        end = at + timedelta(milliseconds=took + (self.dice.took(role.typical_ms) if reports else 0))
        made.state, made.finished_at, made.last_error = DeliveryState.DELIVERED, min(end, self.now), ""
        return made

    def _attempt(  # the columns of one row
        self,
        made: Delivery,
        result: AttemptResult,
        at: datetime,
        took: int,
        trouble: Trouble | None,
        error: str,
        body: str,
    ) -> None:
        made.attempt_count += 1
        made.sent_at = at
        status = 200 if trouble is None else trouble.status
        self.add(
            Attempt(
                delivery_id=made.pk,
                number=made.attempt_count,
                result=result,
                code=trouble.code if trouble else "",
                error=error,
                status_code=status,
                started_at=at,
                duration_ms=took,
                response_headers=HEADERS if status else {},
                response_body=body,
                worker="demo",
            )
        )

    def _die(self, made: Delivery, trouble: Trouble) -> Delivery:
        last: Any = self.rows[Attempt][-1]
        end = last.started_at + timedelta(milliseconds=last.duration_ms)
        made.state, made.finished_at = DeliveryState.DEAD, min(end, self.now)
        made.retries_used = max(0, made.retries_used - 1)  # the last failure asked for none
        if made.dead_letter_id is None:
            self.bury(made, code=trouble.code, message=last.error)
        return made

    def rewind(self, made: Delivery) -> None:
        """Take a delivery back to where nothing has been sent."""
        made.state, made.finished_at, made.sent_at, made.last_error = DeliveryState.PENDING, None, None, ""
        made.attempt_count = made.retries_used = 0
        attempts: Any = self.rows[Attempt]
        attempts[:] = [one for one in attempts if one.delivery_id != made.pk]

    # --- One dead letter -----------------------------------------------------------------------------------
    def bury(self, made: Delivery, *, code: str, message: str, at: datetime | None = None) -> DeadLetter:
        """Write the dead letter of a delivery, which ended at `at` or when it says."""
        made.state, made.finished_at = DeliveryState.DEAD, at or made.finished_at
        letter = self.letter(
            lane_id=made.lane_id, payload=made.payload, code=code, message=message, at=made.finished_at
        )
        letter.delivery_id, letter.retry_count = made.pk, max(0, made.attempt_count - 1)
        return letter

    def letter(
        self,
        *,
        lane_id: int,
        payload: str,
        code: str,
        message: str,
        at: datetime | None,
        source: str = DeadLetterSource.DELIVERY,
    ) -> DeadLetter:
        died = at or self.now
        made = DeadLetter(
            id=self.dice.id(died),
            lane_id=lane_id,
            source=source,
            status=DeadLetterStatus.DEAD,
            payload=payload,
            error_code=code,
            error_message=message,
            reason=str(reason_of(code=code)),
            fingerprint=fingerprint_of(code=code, message=message),
            created_at=died,
            died_at=died,
            expires_at=died + max(KEPT, timedelta(hours=settings.N8N_DLQ_TTL_HOURS)),
        )
        self.letters.append(made)
        return self.add(made)

    def note(self, *, actor: str, action: str, at: datetime, target: Any, reason: str = "", count: int = 1) -> None:
        """Write an entry of the audit log, marked as the demo's."""
        self.add(
            AuditEntry(
                at=at,
                actor=actor,
                action=action,
                target_type=target._meta.model_name,
                target_id=str(target.pk),
                reason=reason,
                count=count,
                details={"demo": True},
            )
        )


def _date_back(model: type[models.Model], rows: Sequence[models.Model]) -> None:
    """Have rows made when their ids say, where the model would say: now."""
    for one in rows:
        at = datetime.fromtimestamp((one.pk.int >> 80) / 1000, UTC)
        model._default_manager.filter(pk=one.pk).update(created_at=at)


def _accepted(book: Builder, wish: Wish) -> Delivery:
    return Delivery(
        id=book.dice.id(wish.at),
        lane_id=book.lane(wish.role, wish.tenant).pk,
        idempotency_key=wish.key,
        payload=json.dumps(wish.payload, ensure_ascii=False),
        payload_digest=digest_of(wish.payload),
        source=wish.source or wish.role.source or Source.API,
        due_at=max(wish.at, wish.not_before or wish.at),
        created_at=wish.at,
    )
