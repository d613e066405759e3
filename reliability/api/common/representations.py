"""The JSON of each model in the API: its fields, in their documented order."""

from collections.abc import Iterable
from typing import Any

from reliability.bulk.preview import Preview
from reliability.lanes.breakers import policy_of
from reliability.models import Attempt, Breaker, DeadLetter, Delivery, Operation, OperationKind
from reliability.policies.breaker import failures_in_window

Representation = dict[str, Any]


def delivery(
    one: Delivery, *, workflow: str, tenant: str, attempts: Iterable[Attempt] | None = None, document: Any = None
) -> Representation:
    """Return a delivery; `attempts` are in the order of their numbers.

    `document` is its payload, if the caller has parsed that already.
    """
    representation = {
        "id": one.id,
        "workflow": workflow,
        "tenant": tenant,
        "idempotency_key": one.idempotency_key,
        "state": one.state,
        "payload": one.document if document is None else document,
        "attempt_count": one.attempt_count,
        "due_at": one.due_at,
        "created_at": one.created_at,
        "finished_at": one.finished_at,
        "expires_at": one.expires_at,
        "replay_of": one.replay_of_id,
        "source": one.source,
        "request_id": one.request,
        "last_error": one.last_error,
    }
    return representation if attempts is None else {**representation, "attempts": [attempt(made) for made in attempts]}


def delivery_of(one: Delivery, *, attempts: Iterable[Attempt] | None = None) -> Representation:
    """As `delivery`, for a row that was selected with its lane and workflow."""
    return delivery(one, workflow=one.lane.workflow.slug, tenant=one.lane.tenant, attempts=attempts)


def attempt(one: Attempt) -> Representation:
    return {
        "number": one.number,
        "result": one.result,
        "code": one.code,
        "error": one.error,
        "status_code": one.status_code,
        "started_at": one.started_at,
        "duration_ms": one.duration_ms,
        "response_body": one.response_body,
        "probe": one.probe,
        "worker": one.worker,
    }


def dead_letter(one: DeadLetter) -> Representation:
    """Return a dead letter that was selected with its lane and workflow."""
    return {
        "id": one.id,
        "workflow": one.lane.workflow.slug,
        "tenant": one.lane.tenant,
        "source": one.source,
        "payload": one.document,
        "error_code": one.error_code,
        "error_message": one.error_message,
        "reason": one.reason,
        "fingerprint": one.fingerprint,
        "retry_count": one.retry_count,
        "status": one.status,
        "delivery": one.delivery_id,
        "execution_id": one.execution_id,
        "execution_url": one.execution_url,
        "created_at": one.created_at,
        "expires_at": one.expires_at,
    }


def breaker(one: Breaker, *, waiting: int, now: Any) -> Representation:
    """Return a breaker that was selected with its lane and workflow; `waiting` counts the deliveries behind it."""
    rules = policy_of(one)
    return {
        "id": one.id,
        "workflow": one.lane.workflow.slug if one.lane else None,
        "tenant": one.lane.tenant if one.lane else None,
        "scope": one.scope,
        "state": one.state,
        "reason": one.reason,
        "failures": failures_in_window(snapshot=one.snapshot, policy=rules, now=now),
        "threshold": rules.threshold,
        "opened_at": one.opened_at,
        "next_probe_at": one.next_probe_at or one.forced_until,
        "waiting": waiting,
    }


def operation(one: Operation) -> Representation:
    ends = one.ends
    return {
        "batch_id": one.id,
        "kind": one.kind,
        "state": one.state,
        "filter": one.filter,
        "cutoff": one.cutoff,
        "count": one.matched,
        "done": one.done,
        "skipped": one.skipped,
        "skipped_by": one.skipped_by,
        "recovered": ends.recovered,
        "failed": ends.failed,
        "withdrawn": ends.withdrawn,
        "under_way": max(0, one.done - ends.total) if one.kind == OperationKind.REPLAY else 0,
        "rate_per_second": one.rate_per_second,
        "canary": one.canary,
        "stop_failure_rate": one.stop_failure_rate,
        "note": one.note,
        "actor": one.actor,
        "reason": one.reason,
        "created_at": one.created_at,
        "finished_at": one.finished_at,
    }


def dry_run(preview: Preview) -> Representation:
    return {
        "dry_run": True,
        "count": preview.matched,
        "will": preview.will,
        "skipped_by": preview.skipped,
        "by_workflow": preview.by_workflow,
        "by_reason": preview.by_reason,
        "samples": [letter.pk for letter in preview.samples],
        "seconds": preview.seconds,
    }
