"""Builds the demo's rows in memory: a delivery with its attempts, and a dead letter."""

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

from .fixtures import FailureMode, WorkflowSpec
from .rng import Rng

M = TypeVar("M", bound=models.Model)
# The demo's dead letters stay for two weeks, even with a shorter N8N_DLQ_TTL_HOURS.
KEPT = timedelta(days=14)
# The database counts failures when a transaction commits; this makes it count now.
APPLY_COUNTS = "SET CONSTRAINTS backstop_outbox_apply IMMEDIATE"
HEADERS = {"content-type": "application/json; charset=utf-8", "x-powered-by": "n8n"}


@dataclass(frozen=True, slots=True)
class DeliverySpec:
    """A delivery to build. Its attempts fail as `fails` says; then it is delivered, or with `is_dead` dead."""

    spec: WorkflowSpec
    tenant: str
    at: datetime
    payload: dict[str, Any]
    key: str
    fails: Sequence[FailureMode] = ()
    is_dead: bool = False
    is_waiting: bool = False
    not_before: datetime | None = None
    source: str = ""


class Builder:
    """All rows of the demo: built in memory, then saved in the order of their dependencies."""

    def __init__(self, *, now: datetime, seed: int) -> None:
        self.now = now
        self.start = now - timedelta(days=7)
        self.rng = Rng(seed=seed)
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
        """Save the rows. Deliveries and dead letters reference each other; those constraints are deferred."""
        attempts: Any = self.rows[Attempt]
        attempts.sort(key=lambda one: one.started_at)
        entries: Any = self.rows[AuditEntry]
        entries.sort(key=lambda one: one.at)
        final_status = {one.pk: one.status for one in self.letters}
        for one in self.letters:
            one.status = DeadLetterStatus.DEAD
        for model, rows in self.rows.items():
            model._default_manager.bulk_create(rows, batch_size=1000)
            if any(one.name == "created_at" and getattr(one, "auto_now_add", False) for one in model._meta.fields):
                _set_created_at(model, rows)
        self._set_final_status(final_status)

    def _set_final_status(self, final_status: dict[UUID, str]) -> None:
        """Set the final status of the dead letters, which were inserted as dead: triggers count only those."""
        for one in self.letters:
            one.status = final_status[one.pk]
        moved = [one for one in self.letters if one.status != DeadLetterStatus.DEAD]
        DeadLetter.objects.bulk_update(moved, ["status"])
        with connection.cursor() as cursor:
            cursor.execute(APPLY_COUNTS)

    def lane(self, spec: WorkflowSpec, tenant: str) -> Lane:
        return self.lanes[spec.slug, tenant]

    # --- Deliveries --------------------------------------------------------------------------------------
    def deliver(self, planned: DeliverySpec) -> Delivery:
        """Write a delivery with its attempts up to `now`."""
        made = self.add(_accepted(self, planned))
        at = max(planned.at + timedelta(milliseconds=self.rng.number(4, 60)), planned.not_before or planned.at)
        for failure in planned.fails:
            if at >= self.now:
                break
            at = self._fail(made, failure, at)
        else:
            if not planned.is_dead and not planned.is_waiting and at < self.now:
                return self._succeed(made, planned.spec, at)
        if planned.is_dead and made.attempt_count == len(planned.fails):
            return self._die(made, planned.fails[-1])
        made.due_at = max(at, made.due_at)
        return made

    def _fail(self, made: Delivery, failure: FailureMode, at: datetime) -> datetime:
        """Write a failed attempt; return the due time of the next one."""
        number = self.rng.number(1000, 9999)
        duration = failure.duration_ms if failure.duration_ms > 20_000 else self.rng.duration(failure.duration_ms)
        error = failure.message.replace("{n}", str(number))
        self._attempt(made, failure.result, at, duration, failure, error, failure.body.replace("{n}", str(number)))
        made.last_error = f"{failure.code}: {error}"
        wait = backoff.delay(
            k=min(made.retries_used, 10),
            base_delay_ms=settings.N8N_BASE_DELAY_MS,
            max_delay_ms=settings.N8N_MAX_DELAY_MS,
            jitter_factor=settings.N8N_JITTER_FACTOR,
            jitter=self.rng.share(),
        )
        made.retries_used += not (failure.free or failure.final)
        return at + timedelta(milliseconds=duration) + wait

    def _succeed(self, made: Delivery, spec: WorkflowSpec, at: datetime) -> Delivery:
        reports = spec.policy.get("completion") == "callback"
        duration = self.rng.duration(90 if reports else spec.typical_ms)
        self._attempt(made, AttemptResult.DELIVERED, at, duration, None, "", '{"ok":true}')
        end = at + timedelta(milliseconds=duration + (self.rng.duration(spec.typical_ms) if reports else 0))
        made.state, made.finished_at, made.last_error = DeliveryState.DELIVERED, min(end, self.now), ""
        return made

    def _attempt(  # the columns of one row
        self,
        made: Delivery,
        result: AttemptResult,
        at: datetime,
        duration: int,
        failure: FailureMode | None,
        error: str,
        body: str,
    ) -> None:
        made.attempt_count += 1
        made.sent_at = at
        status = 200 if failure is None else failure.status
        self.add(
            Attempt(
                delivery_id=made.pk,
                number=made.attempt_count,
                result=result,
                code=failure.code if failure else "",
                error=error,
                status_code=status,
                started_at=at,
                duration_ms=duration,
                response_headers=HEADERS if status else {},
                response_body=body,
                worker="demo",
            )
        )

    def _die(self, made: Delivery, failure: FailureMode) -> Delivery:
        last: Any = self.rows[Attempt][-1]
        end = last.started_at + timedelta(milliseconds=last.duration_ms)
        made.state, made.finished_at = DeliveryState.DEAD, min(end, self.now)
        made.retries_used = max(0, made.retries_used - 1)  # the last failure is not followed by a retry
        if made.dead_letter_id is None:
            self.create_dead_letter(made, code=failure.code, message=last.error)
        return made

    def rewind(self, made: Delivery) -> None:
        """Reset a delivery to pending, without attempts."""
        made.state, made.finished_at, made.sent_at, made.last_error = DeliveryState.PENDING, None, None, ""
        made.attempt_count = made.retries_used = 0
        attempts: Any = self.rows[Attempt]
        attempts[:] = [one for one in attempts if one.delivery_id != made.pk]

    # --- Dead letters -----------------------------------------------------------------------------------
    def create_dead_letter(self, made: Delivery, *, code: str, message: str, at: datetime | None = None) -> DeadLetter:
        """Write the dead letter of a delivery that ended at `at`, or at its `finished_at`."""
        made.state, made.finished_at = DeliveryState.DEAD, at or made.finished_at
        letter = self.add_dead_letter(
            lane_id=made.lane_id, payload=made.payload, code=code, message=message, at=made.finished_at
        )
        letter.delivery_id, letter.retry_count = made.pk, max(0, made.attempt_count - 1)
        return letter

    def add_dead_letter(
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
            id=self.rng.id(died),
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
        """Write an audit log entry, marked as demo data."""
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


def _set_created_at(model: type[models.Model], rows: Sequence[models.Model]) -> None:
    """Set `created_at` to the time in the row's id: `auto_now_add` has set it to now."""
    for one in rows:
        at = datetime.fromtimestamp((one.pk.int >> 80) / 1000, UTC)
        model._default_manager.filter(pk=one.pk).update(created_at=at)


def _accepted(builder: Builder, planned: DeliverySpec) -> Delivery:
    return Delivery(
        id=builder.rng.id(planned.at),
        lane_id=builder.lane(planned.spec, planned.tenant).pk,
        idempotency_key=planned.key,
        payload=json.dumps(planned.payload, ensure_ascii=False),
        payload_digest=digest_of(planned.payload),
        source=planned.source or planned.spec.source or Source.API,
        due_at=max(planned.at, planned.not_before or planned.at),
        created_at=planned.at,
    )
