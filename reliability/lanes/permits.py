"""Whether a workflow may go, for those that run within n8n by themselves: what its lane's breaker says."""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import connection

from reliability.errors import Unavailable, UnknownWorkflow

PERMIT = "SELECT verdict, probe, reason, wait FROM backstop_permit(%s, %s, %s, %s)"
# How long to wait where nothing says when to ask again.
RETRY_AFTER = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to go. As a probe it is the only one out; its execution's report decides for the lane."""

    probe: bool


def ask(*, workflow: str, tenant: str, key_id: UUID) -> Permit:
    """Ask for leave, with the key `key_id`, whose use is noted. One statement (`sql/permit.sql` says why).

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
