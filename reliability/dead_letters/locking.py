"""The lock order of dead letters."""

from django.db.models import QuerySet

from reliability.models import DeadLetter


def locked(letters: "QuerySet[DeadLetter]") -> "QuerySet[DeadLetter]":
    """Lock dead letters in the order of their ids (`reliability.core.lock_order`), which an UPDATE does not keep to.

    Returns those that were found, and still are what was looked for.
    """
    ids = list(letters.order_by("id").select_for_update(no_key=True).values_list("pk", flat=True))
    return DeadLetter.objects.filter(pk__in=ids)
