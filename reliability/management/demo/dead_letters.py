"""What became of the dead letters: replayed one by one or in bulk, purged, archived, or still there. And n8n's own."""

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
from .fixtures import Role, Trouble

HOUR = timedelta(hours=1)
NODES = ("Post to accounting", "Render PDF", "HTTP Request", "Update row")
SAID = (
    ("execution_error", "The service refused the connection - perhaps it is offline"),
    ("execution_error", "Cannot read properties of undefined (reading 'email')"),
    ("execution_error", "Request failed with status code 401"),
    ("execution_crashed", "Workflow did not finish, possible out-of-memory issue"),
)


def fill(book: Builder) -> None:
    """Write what n8n and applications reported, and what people did about the week's dead letters."""
    by_id: dict[UUID | None, Delivery] = {one.pk: one for one in _deliveries(book)}
    broken = [one for one in book.letters if week._within(book, one.died_at, _around(week.BROKEN_PROXY))]
    broken = [one for one in broken if one.error_code == fixtures.BAD_GATEWAY.code]
    _bulk(book, broken, by_id)
    for letter in [one for one in book.letters if one not in broken and one.delivery_id is not None]:
        _usual(book, letter, by_id)
    _reported_by_n8n(book)
    _reported_by_an_application(book)
    _executions(book)


def _deliveries(book: Builder) -> list[Delivery]:
    return [one for one in book.rows[Delivery] if isinstance(one, Delivery)]


def _around(span: tuple[timedelta, timedelta]) -> tuple[timedelta, timedelta]:
    return span[0] + HOUR, span[1] - HOUR / 2


def _bulk(book: Builder, letters: list[DeadLetter], by_id: dict[UUID | None, Delivery]) -> None:
    """A lead replayed what the broken proxy had cost, in one operation that is done."""
    begun = book.now - week.BROKEN_PROXY[1] + timedelta(minutes=9)
    failed = set(range(0, len(letters), max(1, len(letters) // 3)))
    for place, letter in enumerate(sorted(letters, key=lambda one: one.pk)):
        at = begun + timedelta(seconds=place / 5)
        _replay(book, letter, by_id, at, fixtures.ORDERS, again=fixtures.IN_WORKFLOW if place in failed else None)
    ended = begun + timedelta(seconds=len(letters) / 5 + 30)
    operation = book.add(
        Operation(
            id=book.dice.id(begun),
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
    _tally(book, operation, letters, failed)
    reason, count = operation.reason, operation.matched
    book.note(actor=fixtures.LEAD, action="bulk_replay", at=begun, target=operation, reason=reason, count=count)


def _tally(book: Builder, operation: Operation, letters: list[DeadLetter], failed: set[int]) -> None:
    """Count how its replays ended, by lane."""
    ends = Counter(
        (letter.lane_id, place in failed) for place, letter in enumerate(sorted(letters, key=lambda one: one.pk))
    )
    for lane_id in {letter.lane_id for letter in letters}:
        counts = {"recovered": ends[lane_id, False], "failed": ends[lane_id, True]}
        book.add(OperationTally(operation=operation, lane_id=lane_id, **counts))


def _usual(book: Builder, letter: DeadLetter, by_id: dict[UUID | None, Delivery]) -> None:
    role = _role(book, letter.lane_id)
    age, chance = book.now - letter.died_at, book.dice.share()
    at = letter.died_at + timedelta(minutes=book.dice.number(8, 240))
    if letter.error_code == fixtures.NOT_THERE.code and chance < 0.7:
        _replay(book, letter, by_id, book.now - timedelta(minutes=3), role)
        return
    if at >= book.now or chance > (0.75 if age > timedelta(days=2) else 0.3):
        return
    if chance < 0.2 and letter.error_code not in ("http_400", "http_413"):
        _replay(book, letter, by_id, at, role)
        who, reason = (
            book.dice.one_of((fixtures.OPERATOR, fixtures.NIGHT)),
            book.dice.one_of(("vendor is back", "asked for")),
        )
        book.note(actor=who, action="replay", at=at, target=letter, reason=reason)
    elif chance < 0.3:
        letter.status, letter.closed_at, letter.erase_at = DeadLetterStatus.PURGED, at, at + timedelta(days=30)
        book.note(actor=fixtures.LEAD, action="purge", at=at, target=letter, reason="a test order")
    elif age > timedelta(days=4):
        letter.expires_at = letter.died_at + timedelta(days=1)
        letter.status, letter.closed_at = DeadLetterStatus.ARCHIVED, letter.expires_at


def _role(book: Builder, lane_id: int) -> Role:
    slug = next(slug for (slug, _), lane in book.lanes.items() if lane.pk == lane_id)
    return next(role for role in fixtures.ROLES if role.slug == slug)


def _replay(  # one replay, and how it ends
    book: Builder,
    letter: DeadLetter,
    by_id: dict[UUID | None, Delivery],
    at: datetime,
    role: Role,
    again: Trouble | None = None,
) -> None:
    """Write the replay of a dead letter: recovered, or dead again by `again`; where its lane is stuck, it waits."""
    first = by_id[letter.delivery_id]
    made = book.add(
        Delivery(
            id=book.dice.id(at),
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
    stuck = letter.error_code == fixtures.NOT_THERE.code
    if stuck:
        letter.status = DeadLetterStatus.REPLAYING
    elif again is None:
        book._succeed(made, role, at)
        letter.status, letter.closed_at = DeadLetterStatus.RECOVERED, made.finished_at
    else:
        _die_again(book, letter, made, again, role, at)


def _die_again(book: Builder, letter: DeadLetter, made: Delivery, trouble: Trouble, role: Role, at: datetime) -> None:
    for _ in range(role.policy.get("max_retries", 3) + 1):
        at = book._fail(made, trouble, at)
    book._die(made, trouble)
    renamed = book.letter(
        lane_id=letter.lane_id, payload="", code=trouble.code, message=trouble.message, at=made.finished_at
    )
    book.letters.remove(renamed)
    book.rows[DeadLetter].remove(renamed)
    for name in ("error_code", "error_message", "reason", "fingerprint", "died_at", "expires_at"):
        setattr(letter, name, getattr(renamed, name))
    letter.retry_count += made.attempt_count


def _reported_by_n8n(book: Builder) -> None:
    """Failures that n8n's Error Trigger told of, of workflows that something else than Backstop had started."""
    for _ in range(26):
        code, message = book.dice.one_of(SAID)
        at = book.now - timedelta(minutes=book.dice.number(5, 7 * 24 * 60))
        role = book.dice.one_of((fixtures.INVOICES, fixtures.REPORT, fixtures.GAPS))
        _report(book, role, code, message, at)


def _report(book: Builder, role: Role, code: str, message: str, at: datetime) -> None:
    number, node = book.dice.number(20_000, 29_999), book.dice.one_of(NODES)
    execution = {"id": f"demo-{number}", "error": {"message": message}, "lastNodeExecuted": node, "mode": "webhook"}
    body = json.dumps({"execution": execution, "workflow": {"id": f"demo{role.slug[5:]}", "name": role.name}})
    lane = book.lane(role, role.tenants[0])
    letter = book.letter(lane_id=lane.pk, payload=body, code=code, message=message, at=at, source=DeadLetterSource.N8N)
    letter.execution_id = execution["id"]  # type: ignore[assignment]  # the first of its values is text
    status = ExecutionStatus.CRASHED if code == "execution_crashed" else ExecutionStatus.ERROR
    book.add(
        FailureReport(
            id=book.dice.id(at),
            state=ReportState.BURIED,
            for_tenant=lane.tenant,
            execution_id=letter.execution_id,
            n8n_workflow_id=f"demo{role.slug[5:]}",
            n8n_workflow_name=role.name,
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
    _execution(book, lane.pk, letter.execution_id, status, at, 4_000)


def _reported_by_an_application(book: Builder) -> None:
    for _ in range(5):
        at = book.now - timedelta(minutes=book.dice.number(30, 5 * 24 * 60))
        book.letter(
            lane_id=book.lane(fixtures.PAYOUTS, fixtures.GLOBEX).pk,
            payload=json.dumps({"payout": book.next_number(), "amount": 129_900}),
            code="BANK_REFUSED",
            message=f"The bank refused transfer {book.dice.number(100_000, 999_999)}",
            at=at,
            source=DeadLetterSource.API,
        )


def _executions(book: Builder) -> None:
    """n8n's figures of those that it ran lately for the workflows that report their end."""
    lane_id = book.lane(fixtures.TICKETS, fixtures.UMBRA).pk
    for made in _deliveries(book):
        if made.lane_id == lane_id and made.state == DeliveryState.DELIVERED and made.finished_at is not None:
            took = int((made.finished_at - made.created_at).total_seconds() * 1000)
            name = f"demo-{book.dice.number(30_000, 99_999_999)}"
            _execution(book, lane_id, name, ExecutionStatus.SUCCESS, made.finished_at, took, made)


def _execution(  # the columns of one row
    book: Builder, lane_id: int, name: str, status: str, at: datetime, took: int, made: Delivery | None = None
) -> None:
    book.add(
        Execution(
            id=book.dice.id(at),
            lane_id=lane_id,
            delivery_id=made.pk if made else None,
            execution_id=name,
            status=status,
            duration_ms=took,
            settled=True,
            reported_at=at,
        )
    )
