"""The demo's dead letters: replayed singly or in bulk, purged, archived or dead; and those that n8n reported."""

import json
from collections import Counter
from datetime import datetime, timedelta
from uuid import UUID

from reliability.models import (
    DeadLetter,
    DeadLetterSource,
    DeadLetterStatus,
    Delivery,
    DeliveryState,
    Execution,
    ExecutionStatus,
    FailureReport,
    Operation,
    OperationKind,
    OperationState,
    OperationTally,
    ReportState,
    Source,
)

from . import fixtures, week
from .builder import Builder
from .fixtures import FailureMode, WorkflowSpec

HOUR = timedelta(hours=1)
NODES = ("Post to accounting", "Render PDF", "HTTP Request", "Update row")
N8N_ERRORS = (
    ("execution_error", "The service refused the connection - perhaps it is offline"),
    ("execution_error", "Cannot read properties of undefined (reading 'email')"),
    ("execution_error", "Request failed with status code 401"),
    ("execution_crashed", "Workflow did not finish, possible out-of-memory issue"),
)


def fill(builder: Builder) -> None:
    """Write the reports of n8n and applications, and the operators' actions on the week's dead letters."""
    by_id: dict[UUID | None, Delivery] = {one.pk: one for one in _deliveries(builder)}
    broken = [one for one in builder.letters if week._within(builder, one.died_at, _around(week.BROKEN_PROXY))]
    broken = [one for one in broken if one.error_code == fixtures.BAD_GATEWAY.code]
    _bulk(builder, broken, by_id)
    for letter in [one for one in builder.letters if one not in broken and one.delivery_id is not None]:
        _handle(builder, letter, by_id)
    _reported_by_n8n(builder)
    _reported_by_an_application(builder)
    _executions(builder)


def _deliveries(builder: Builder) -> list[Delivery]:
    return [one for one in builder.rows[Delivery] if isinstance(one, Delivery)]


def _around(span: tuple[timedelta, timedelta]) -> tuple[timedelta, timedelta]:
    return span[0] + HOUR, span[1] - HOUR / 2


def _bulk(builder: Builder, letters: list[DeadLetter], by_id: dict[UUID | None, Delivery]) -> None:
    """One finished bulk replay of the dead letters from the broken proxy."""
    begun = builder.now - week.BROKEN_PROXY[1] + timedelta(minutes=9)
    failed = set(range(0, len(letters), max(1, len(letters) // 3)))
    for place, letter in enumerate(sorted(letters, key=lambda one: one.pk)):
        at = begun + timedelta(seconds=place / 5)
        _replay(builder, letter, by_id, at, fixtures.ORDERS, again=fixtures.IN_WORKFLOW if place in failed else None)
    ended = begun + timedelta(seconds=len(letters) / 5 + 30)
    operation = builder.add(
        Operation(
            id=builder.rng.id(begun),
            kind=OperationKind.REPLAY,
            state=OperationState.DONE,
            filter={"workflow": fixtures.ORDERS.slug, "error_code": fixtures.BAD_GATEWAY.code},
            cutoff=begun,
            matched=len(letters),
            done=len(letters),
            canary=True,
            actor=fixtures.LEAD,
            reason="The proxy is back",
            created_at=begun,
            finished_at=ended,
        )
    )
    _tally(builder, operation, letters, failed)
    reason, count = operation.reason, operation.matched
    builder.note(actor=fixtures.LEAD, action="bulk_replay", at=begun, target=operation, reason=reason, count=count)


def _tally(builder: Builder, operation: Operation, letters: list[DeadLetter], failed: set[int]) -> None:
    """Count the ends of its replays, by lane."""
    ends = Counter(
        (letter.lane_id, place in failed) for place, letter in enumerate(sorted(letters, key=lambda one: one.pk))
    )
    for lane_id in {letter.lane_id for letter in letters}:
        counts = {"recovered": ends[lane_id, False], "failed": ends[lane_id, True]}
        builder.add(OperationTally(operation=operation, lane_id=lane_id, **counts))


def _handle(builder: Builder, letter: DeadLetter, by_id: dict[UUID | None, Delivery]) -> None:
    spec = _spec_of(builder, letter.lane_id)
    age, chance = builder.now - letter.died_at, builder.rng.share()
    at = letter.died_at + timedelta(minutes=builder.rng.number(8, 240))
    if letter.error_code == fixtures.NOT_THERE.code and chance < 0.7:
        _replay(builder, letter, by_id, builder.now - timedelta(minutes=3), spec)
        return
    if at >= builder.now or chance > (0.75 if age > timedelta(days=2) else 0.3):
        return
    if chance < 0.2 and letter.error_code not in ("http_400", "http_413"):
        _replay(builder, letter, by_id, at, spec)
        who, reason = (
            builder.rng.one_of((fixtures.OPERATOR, fixtures.NIGHT)),
            builder.rng.one_of(("vendor is back", "asked for")),
        )
        builder.note(actor=who, action="replay", at=at, target=letter, reason=reason)
    elif chance < 0.3:
        letter.status, letter.closed_at, letter.erase_at = DeadLetterStatus.PURGED, at, at + timedelta(days=30)
        builder.note(actor=fixtures.LEAD, action="purge", at=at, target=letter, reason="a test order")
    elif age > timedelta(days=4):
        letter.expires_at = letter.died_at + timedelta(days=1)
        letter.status, letter.closed_at = DeadLetterStatus.ARCHIVED, letter.expires_at


def _spec_of(builder: Builder, lane_id: int) -> WorkflowSpec:
    slug = next(slug for (slug, _), lane in builder.lanes.items() if lane.pk == lane_id)
    return next(spec for spec in fixtures.WORKFLOWS if spec.slug == slug)


def _replay(  # one replay, and how it ends
    builder: Builder,
    letter: DeadLetter,
    by_id: dict[UUID | None, Delivery],
    at: datetime,
    spec: WorkflowSpec,
    again: FailureMode | None = None,
) -> None:
    """Write the replay of a dead letter: recovered, dead again by `again`, or waiting if its lane is blocked."""
    first = by_id[letter.delivery_id]
    made = builder.add(
        Delivery(
            id=builder.rng.id(at),
            lane_id=letter.lane_id,
            idempotency_key=first.idempotency_key,
            payload=letter.payload,
            payload_digest=first.payload_digest,
            source=Source.REPLAY,
            due_at=at,
            created_at=at,
            replay_of_id=first.pk,
            dead_letter_id=letter.pk,
        )
    )
    is_blocked = letter.error_code == fixtures.NOT_THERE.code
    if is_blocked:
        letter.status = DeadLetterStatus.REPLAYING
    elif again is None:
        builder._succeed(made, spec, at)
        letter.status, letter.closed_at = DeadLetterStatus.RECOVERED, made.finished_at
    else:
        _die_again(builder, letter, made, again, spec, at)


def _die_again(
    builder: Builder, letter: DeadLetter, made: Delivery, failure: FailureMode, spec: WorkflowSpec, at: datetime
) -> None:
    for _ in range(spec.policy.get("max_retries", 3) + 1):
        at = builder._fail(made, failure, at)
    builder._die(made, failure)
    renamed = builder.add_dead_letter(
        lane_id=letter.lane_id, payload="", code=failure.code, message=failure.message, at=made.finished_at
    )
    builder.letters.remove(renamed)
    builder.rows[DeadLetter].remove(renamed)
    for name in ("error_code", "error_message", "reason", "fingerprint", "died_at", "expires_at"):
        setattr(letter, name, getattr(renamed, name))
    letter.retry_count += made.attempt_count


def _reported_by_n8n(builder: Builder) -> None:
    """Failures that n8n's Error Trigger reported, of workflows that Backstop did not start."""
    for _ in range(26):
        code, message = builder.rng.one_of(N8N_ERRORS)
        at = builder.now - timedelta(minutes=builder.rng.number(5, 7 * 24 * 60))
        spec = builder.rng.one_of((fixtures.INVOICES, fixtures.REPORT, fixtures.GAPS))
        _report(builder, spec, code, message, at)


def _report(builder: Builder, spec: WorkflowSpec, code: str, message: str, at: datetime) -> None:
    number, node = builder.rng.number(20_000, 29_999), builder.rng.one_of(NODES)
    execution = {"id": f"demo-{number}", "error": {"message": message}, "lastNodeExecuted": node, "mode": "webhook"}
    body = json.dumps({"execution": execution, "workflow": {"id": f"demo{spec.slug[5:]}", "name": spec.name}})
    lane = builder.lane(spec, spec.tenants[0])
    letter = builder.add_dead_letter(
        lane_id=lane.pk, payload=body, code=code, message=message, at=at, source=DeadLetterSource.N8N
    )
    letter.execution_id = execution["id"]  # type: ignore[assignment]  # the first of its values is text
    status = ExecutionStatus.CRASHED if code == "execution_crashed" else ExecutionStatus.ERROR
    builder.add(
        FailureReport(
            id=builder.rng.id(at),
            state=ReportState.BURIED,
            for_tenant=lane.tenant,
            execution_id=letter.execution_id,
            n8n_workflow_id=f"demo{spec.slug[5:]}",
            n8n_workflow_name=spec.name,
            status=status,
            mode="webhook",
            node=node,
            error_code=code,
            error_message=message,
            report=body,
            dead_letter_id=letter.pk,
            reported_at=at,
        )
    )
    _execution(builder, lane.pk, letter.execution_id, status, at, 4_000)


def _reported_by_an_application(builder: Builder) -> None:
    for _ in range(5):
        at = builder.now - timedelta(minutes=builder.rng.number(30, 5 * 24 * 60))
        builder.add_dead_letter(
            lane_id=builder.lane(fixtures.PAYOUTS, fixtures.GLOBEX).pk,
            payload=json.dumps({"payout": builder.next_number(), "amount": 129_900}),
            code="BANK_REFUSED",
            message=f"The bank refused transfer {builder.rng.number(100_000, 999_999)}",
            at=at,
            source=DeadLetterSource.API,
        )


def _executions(builder: Builder) -> None:
    """Executions that n8n reported, of the workflow with callbacks."""
    lane_id = builder.lane(fixtures.TICKETS, fixtures.UMBRA).pk
    for made in _deliveries(builder):
        if made.lane_id == lane_id and made.state == DeliveryState.DELIVERED and made.finished_at is not None:
            duration = int((made.finished_at - made.created_at).total_seconds() * 1000)
            name = f"demo-{builder.rng.number(30_000, 99_999_999)}"
            _execution(builder, lane_id, name, ExecutionStatus.SUCCESS, made.finished_at, duration, made)


def _execution(  # the columns of one row
    builder: Builder, lane_id: int, name: str, status: str, at: datetime, duration: int, made: Delivery | None = None
) -> None:
    builder.add(
        Execution(
            id=builder.rng.id(at),
            lane_id=lane_id,
            delivery_id=made.pk if made else None,
            execution_id=name,
            status=status,
            duration_ms=duration,
            settled=True,
            reported_at=at,
        )
    )
