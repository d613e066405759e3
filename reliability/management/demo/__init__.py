"""Demo data: a realistic week, to explore the console before any real data exists.

    fill: workflows, lanes -> deliveries, other packages' parts, dead letters, operator actions -> one transaction

Every row has a demo id (`reliability.models.ids.is_demo`), and slugs begin with `demo-`. None of it is ever sent: the
dispatcher skips demo workflows, and no wake-up is written.
"""

from datetime import datetime

from django.db import transaction
from django.db.models import Model

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
    """Whether the database holds workflows, Stripe events or cron jobs that are not part of the demo."""
    others = any(not is_demo(pk) for pk in Workflow.objects.values_list("pk", flat=True))
    newest = StripeEvent.objects.order_by("-id").values_list("pk", flat=True)[:1]
    return others or any(not is_demo(pk) for pk in newest) or any(part.holds_other() for part in demo_parts.loaded())


def fill(*, now: datetime, seed: int = SEED, force: bool = False) -> dict[type[Model], int]:
    """Write the demo's week up to `now`; return the number of rows by model.

    Raises `Conflict` if the demo exists already or, unless `force`, if the database holds other data.
    """
    if is_present():
        raise Conflict("The demo data exists already.")
    if not force and holds_other():
        raise Conflict("The database holds other data.")
    with transaction.atomic():
        builder = Builder(now=now, seed=seed)
        week.open_lanes(builder)
        others = [part.fill for part in demo_parts.loaded()]
        for write in (week.fill, stripe.fill, *others, dead_letters.fill, breakers.fill, operators.fill):
            write(builder)
        builder.save()
        rollups.fill([lane.pk for lane in builder.lanes.values()])
    return {model: len(rows) for model, rows in builder.rows.items()}


def remove() -> int:
    """Remove the demo, and nothing else; return the number of deleted rows."""
    with transaction.atomic():
        return sum(part.remove() for part in demo_parts.loaded()) + removal.remove()


__all__ = ["fill", "holds_other", "is_present", "remove"]
