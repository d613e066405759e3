"""Demo data: a believable week, for a look at the console before anything real has come in.

    fill: workflows, lanes -> deliveries, dead letters, what people did -> other rooms' parts -> one transaction

All of it carries ids of the demo (`reliability.models.ids.is_demo`), and slugs that begin with `demo-`. Nothing of it
is ever sent: the dispatcher passes by the demo's workflows, and no wake-up is written.
"""

from datetime import datetime

from django.db import transaction

from reliability.errors import Conflict
from reliability.management import demo_parts
from reliability.models import StripeEvent, Workflow
from reliability.models.ids import is_demo

from . import breakers, dead_letters, operators, removal, rollups, stripe, week
from .builder import Builder

SEED = 7


def is_present() -> bool:
    """Whether the database holds the demo."""
    return any(is_demo(pk) for pk in Workflow.objects.values_list("pk", flat=True))


def holds_other() -> bool:
    """Whether the database holds anything beside the demo that came in, or that somebody set up."""
    others = any(not is_demo(pk) for pk in Workflow.objects.values_list("pk", flat=True))
    newest = StripeEvent.objects.order_by("-id").values_list("pk", flat=True)[:1]
    return others or any(not is_demo(pk) for pk in newest) or any(part.holds_other() for part in demo_parts.loaded())


def fill(*, now: datetime, seed: int = SEED, force: bool = False) -> dict[str, int]:
    """Write the demo's week up to `now`; return how many rows there are of each kind.

    Raises `Conflict` where the demo is there already or, unless `force`, where the database holds other data.
    """
    if is_present():
        raise Conflict("The demo is there already.")
    if not force and holds_other():
        raise Conflict("The database holds other data.")
    with transaction.atomic():
        book = Builder(now=now, seed=seed)
        week.open_lanes(book)
        others = [part.fill for part in demo_parts.loaded()]
        for write in (week.fill, stripe.fill, *others, dead_letters.fill, breakers.fill, operators.fill):
            write(book)
        book.save()
        rollups.fill([lane.pk for lane in book.lanes.values()])
    return {str(model._meta.verbose_name_plural): len(rows) for model, rows in book.rows.items()}


def remove() -> int:
    """Take the demo out again, and nothing else; return how many rows went."""
    with transaction.atomic():
        return sum(part.remove() for part in demo_parts.loaded()) + removal.remove()


__all__ = ["fill", "holds_other", "is_present", "remove"]
