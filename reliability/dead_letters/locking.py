"""The lock order of dead letters."""

from django.db.models import QuerySet

from reliability.models import DeadLetter


def locked(letters: "QuerySet[DeadLetter]") -> "QuerySet[DeadLetter]":
    """Lock dead letters in the order of their ids, and return a queryset of the rows that still match.

    An UPDATE locks rows in the order of its plan, so that two of them can deadlock. The order of all tables is in
    `reliability.core.lock_order`.
    """
    ids = list(letters.order_by("id").select_for_update(no_key=True).values_list("pk", flat=True))
    return DeadLetter.objects.filter(pk__in=ids)
