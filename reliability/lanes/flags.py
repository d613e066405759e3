"""The switches: which parts of the service are off, and switching them."""

from datetime import datetime
from typing import Any

from django.apps import apps as present
from django.apps.registry import Apps
from django.db import transaction

from reliability import queue
from reliability.core import audit
from reliability.core.audit import Actor
from reliability.core.lock_waits import deadlocks_retried
from reliability.errors import NotFound
from reliability.models import Flag, FlagName


def all_flags() -> list[Flag]:
    """Return every switch, also those without a row yet."""
    kept = {flag.name: flag for flag in Flag.objects.all()}
    return [kept.get(name) or Flag(name=name) for name in FlagName.values]


def create_missing(*, using: str, apps: Apps = present, **_: Any) -> None:
    """Create missing switches, on, after a migration: the console lists rows only."""
    try:
        flag: Any = apps.get_model("reliability", "Flag")
    except LookupError:
        return  # migrated back to a state without this table
    flag.objects.using(using).bulk_create([flag(name=name) for name in FlagName.values], ignore_conflicts=True)


@deadlocks_retried
def switch(*, name: str, enabled: bool, actor: Actor, now: datetime) -> Flag:
    """Switch a part of the service on or off; switching dispatch on wakes all waiting lanes. Raises `NotFound`."""
    if name not in FlagName.values:
        raise NotFound(f"There is no switch '{name}'; there are {', '.join(FlagName.values)}.")
    with transaction.atomic():
        Flag.objects.bulk_create([Flag(name=name)], ignore_conflicts=True)
        # Locked (`core.lock_order`), so that of two operators the second sees what the first did.
        flag = Flag.objects.select_for_update(no_key=True).get(pk=name)
        if flag.enabled != enabled:
            flag.enabled, flag.reason, flag.changed_at, flag.changed_by = enabled, actor.reason, now, actor.name
            flag.save()
            audit.record(actor=actor, action="switch_on" if enabled else "switch_off", now=now, target=flag)
            if enabled and name == FlagName.DISPATCH:
                queue.wake_waiting()
    return flag


def switch_on(*, name: str, actor: Actor, now: datetime) -> Flag:
    """Switch a part on. Raises `NotFound`."""
    return switch(name=name, enabled=True, actor=actor, now=now)


def switch_off(*, name: str, actor: Actor, now: datetime) -> Flag:
    """Switch a part off. Raises `NotFound`."""
    return switch(name=name, enabled=False, actor=actor, now=now)
