"""What a bulk operation is about: the dead letters that its frozen filter matched at its cut-off."""

from datetime import datetime
from typing import Any

from django.db.models import Q

from reliability.dead_letters.filters import DeadLetterFilter
from reliability.models import DeadLetter, DeadLetterSource, DeadLetterStatus, OperationKind
from reliability.n8n import client as n8n_client

# Why one is passed over.
NO_EXECUTION = "no_execution"
NOT_CONFIGURED = "n8n_not_configured"
GONE = "no_longer_dead"
LABELS = {
    NO_EXECUTION: "reported by n8n without an execution that could be retried",
    NOT_CONFIGURED: "to be retried by n8n, whose REST API has no key here (N8N_API_KEY)",
    GONE: "no longer dead when their turn came",
}


def matching(*, kind: str, frozen: dict[str, Any], cutoff: datetime) -> "Any":
    """Return those that the operation is about, in no particular order: what died after the cut-off is not."""
    if kind == OperationKind.RESTORE:
        purged = DeadLetter.objects.filter(purged_by=frozen["operation"], status=DeadLetterStatus.PURGED)
        return purged.filter(erase_at__gt=cutoff)
    found = DeadLetterFilter.from_json(frozen).matching()
    return found.filter(status=DeadLetterStatus.DEAD, died_at__lte=cutoff)


def hindrances() -> dict[str, Q]:
    """Return the conditions under which a dead letter cannot be replayed, by cause; they exclude each other."""
    reported = Q(source=DeadLetterSource.N8N)
    found = {NO_EXECUTION: reported & Q(execution_id="")}
    if not n8n_client.is_configured():
        found[NOT_CONFIGURED] = reported & ~Q(execution_id="")
    return found
