"""The dead letters of a bulk operation: those that its stored filter matches at its cut-off."""

from datetime import datetime
from typing import Any

from django.db.models import Q

from reliability.dead_letters.filters import DeadLetterFilter
from reliability.models import DeadLetter, DeadLetterSource, DeadLetterStatus, OperationKind
from reliability.n8n import client as n8n_client

# Why a dead letter is skipped.
NO_EXECUTION = "no_execution"
NOT_CONFIGURED = "n8n_not_configured"
NO_LONGER_DEAD = "no_longer_dead"
LABELS = {
    NO_EXECUTION: "reported by n8n without an execution to retry",
    NOT_CONFIGURED: "to be retried by n8n, but N8N_API_KEY is not set",
    NO_LONGER_DEAD: "no longer dead when the operation reached them",
}


def matching(*, kind: str, filter_json: dict[str, Any], cutoff: datetime) -> "Any":
    """Return the dead letters of an operation, in no particular order: none that failed after the cut-off."""
    if kind == OperationKind.RESTORE:
        purged = DeadLetter.objects.filter(purged_by=filter_json["operation"], status=DeadLetterStatus.PURGED)
        return purged.filter(erase_at__gt=cutoff)
    # The cut-off keeps an operation from growing while it runs: a replay that fails again has a later `died_at`.
    found = DeadLetterFilter.from_json(filter_json).matching()
    return found.filter(status=DeadLetterStatus.DEAD, died_at__lte=cutoff)


def skip_conditions() -> dict[str, Q]:
    """Return the conditions under which a dead letter cannot be replayed, by cause. They exclude each other."""
    reported = Q(source=DeadLetterSource.N8N)
    found = {NO_EXECUTION: reported & Q(execution_id="")}
    if not n8n_client.is_configured():
        found[NOT_CONFIGURED] = reported & ~Q(execution_id="")
    return found
