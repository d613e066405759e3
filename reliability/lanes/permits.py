"""Permits: whether a workflow that n8n starts by itself may run, as its lane's breaker says."""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import connection

from reliability.errors import Unavailable, UnknownWorkflow

PERMIT = "SELECT verdict, probe, reason, wait FROM backstop_permit(%s, %s, %s, %s)"
# Retry-After where the time is not known: the workflow is paused, or its breaker is forced open, without an end.
RETRY_AFTER = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Permit:
    """A permission to run. With `probe` it is the only one; the report of its execution decides for the lane."""

    probe: bool


def ask(*, workflow: str, tenant: str, key_id: UUID) -> Permit:
    """Return a permit for a workflow, and record the use of the key `key_id`: one statement.

    The decision is made in SQL, against the rule that policy is Python's: authentication and permit may take two
    statements together. Reading a breaker that is due, deciding here and beginning the probe would make it three.

    Raises `UnknownWorkflow`, and `Unavailable` with the time to wait while the breaker is open or the workflow
    paused.
    """
    with connection.cursor() as cursor:
        cursor.execute(PERMIT, [workflow, tenant, key_id, settings.N8N_TIMEOUT_MS])
        verdict, probe, reason, wait = cursor.fetchone()
    if verdict == "permitted":
        return Permit(probe)
    if verdict == "unknown":
        raise UnknownWorkflow(errors={"workflow": [f"There is no workflow '{workflow}'."]})
    said = "The workflow is paused." if verdict == "paused" else f"The breaker is {verdict.replace('_', ' ')}: {reason}"
    raise Unavailable(said, retry_after=max(timedelta(seconds=1), wait) if wait is not None else RETRY_AFTER)
