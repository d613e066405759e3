"""Removes the demo: the rows of its lanes and its endpoint, and rows with demo ids."""

from typing import Any

from django.db import connection

from reliability import queue
from reliability.models import ApiKey, AuditEntry, Lane, Operation, StripeClaim, StripeEndpoint, Workflow
from reliability.models.ids import is_demo

from .builder import APPLY_COUNTS

LANES, ENDPOINTS = "ANY(%(lanes)s)", "ANY(%(endpoints)s)"
DELIVERIES = f"(SELECT id FROM reliability_delivery WHERE lane_id = {LANES})"  # noqa: S608  # our own text
LETTERS = f"(SELECT id FROM reliability_deadletter WHERE lane_id = {LANES})"  # noqa: S608  # as above
EVENTS = f"(SELECT id FROM reliability_stripeevent WHERE endpoint_id = {ENDPOINTS})"  # noqa: S608  # as above
BREAKERS = f"(SELECT id FROM reliability_breaker WHERE lane_id = {LANES})"  # noqa: S608  # as above
# Referencing tables first; deferred constraints are checked at the end of the transaction.
STEPS = (
    ("executionretry", f"dead_letter_id IN {LETTERS}"),
    ("failurereport", f"delivery_id IN {DELIVERIES} OR dead_letter_id IN {LETTERS}"),
    ("execution", f"lane_id = {LANES}"),
    ("attempt", f"delivery_id IN {DELIVERIES}"),
    ("deadletter", f"lane_id = {LANES}"),
    ("delivery", f"lane_id = {LANES}"),
    ("slot", f"lane_id = {LANES}"),
    ("rollup", f"lane_id = {LANES}"),
    ("deathrollup", f"lane_id = {LANES}"),
    ("breakertransition", f"breaker_id IN {BREAKERS}"),
    ("breaker", f"lane_id = {LANES}"),
    ("striperepeat", f"event_id IN {EVENTS}"),
    ("stripeevent", f"endpoint_id = {ENDPOINTS}"),
    ("stripesecret", f"endpoint_id = {ENDPOINTS}"),
    ("striperefusal", f"slug IN (SELECT slug FROM reliability_stripeendpoint WHERE id = {ENDPOINTS})"),  # noqa: S608  # as above
    ("stripeendpoint", f"id = {ENDPOINTS}"),
    ("stripeclaim", "id = ANY(%(claims)s)"),
    ("failuregroup", "workflow_id = ANY(%(workflows)s)"),
    ("total", "key = ANY(%(workflows)s::text[]) OR key = ANY(%(endpoints)s::text[])"),
    ("lanetotal", f"lane_id = {LANES}"),
    ("operationtally", f"lane_id = {LANES} OR operation_id = ANY(%(operations)s)"),
    ("lane", f"id = {LANES}"),
    ("workflow", "id = ANY(%(workflows)s)"),
    ("apikey", "id = ANY(%(keys)s)"),
    ("operation", "id = ANY(%(operations)s)"),
)

# Tables that deferred triggers write.
COUNTED = ("failuregroup", "total")


def remove() -> int:
    """Delete the demo's rows in the current transaction; return the number of rows."""
    values = _ids()
    queue.delete_wakeups(lane_ids=values["lanes"])
    deleted = 0
    with connection.cursor() as cursor:
        for table, where in STEPS:
            if table in COUNTED:
                cursor.execute(APPLY_COUNTS)  # apply the deferred counts now: later they would insert these rows again
            cursor.execute(f"DELETE FROM reliability_{table} WHERE {where}", values)  # noqa: S608  # our own text
            deleted += cursor.rowcount
    return deleted + AuditEntry.objects.filter(details__demo=True).delete()[0]


def _ids() -> dict[str, list[Any]]:
    workflows = _demo(Workflow.objects.values_list("pk", flat=True))
    return {
        "workflows": workflows,
        "lanes": list(Lane.objects.filter(workflow_id__in=workflows).values_list("pk", flat=True)),
        "endpoints": _demo(StripeEndpoint.objects.values_list("pk", flat=True)),
        "claims": _demo(StripeClaim.objects.filter(tenant__startswith="demo-").values_list("pk", flat=True)),
        "keys": _demo(ApiKey.objects.values_list("pk", flat=True)),
        "operations": _demo(Operation.objects.values_list("pk", flat=True)),
    }


def _demo(ids: Any) -> list[Any]:
    return [one for one in ids if is_demo(one)]
