"""Secrets at rest, sealed anew under the present `SECRET_KEY`, so that an earlier one can be given up."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.apps import apps
from django.core.exceptions import ValidationError
from django.db import models, transaction

from reliability.core import audit
from reliability.core.audit import Actor
from reliability.models.fields import EncryptedTextField


@dataclass(frozen=True, slots=True)
class Sealed:
    """One kind of secret: how many were sealed anew, and the rows whose secret no key opens."""

    name: str
    done: int
    lost: tuple[str, ...]


def reseal(*, actor: Actor, now: datetime, dry_run: bool = False) -> list[Sealed]:
    """Read every secret by whichever key opens it, and write it under the first. Doing it again does no harm."""
    found = [_reseal(model, field, dry_run=dry_run) for model, field in _fields()]
    if not dry_run:
        counts = {one.name: one.done for one in found}
        audit.record(actor=actor, action="reencrypt", now=now, count=sum(counts.values()), details=counts)
    return found


def _fields() -> Iterator[tuple[type[models.Model], str]]:
    for model in apps.get_models():
        for field in model._meta.get_fields():
            if isinstance(field, EncryptedTextField):
                yield model, field.name


def _reseal(model: type[models.Model], field: str, *, dry_run: bool) -> Sealed:
    rows: Any = model._default_manager.exclude(**{field: ""}).order_by("pk")
    done, lost = 0, []
    for pk in rows.values_list("pk", flat=True):
        try:
            done += _one(rows, pk, field, dry_run=dry_run)
        except ValidationError:
            lost.append(str(pk))
    return Sealed(f"{model._meta.verbose_name}: {field.replace('_', ' ')}", done, tuple(lost))


def _one(rows: Any, pk: Any, field: str, *, dry_run: bool) -> int:
    """Seal one row's secret. Its lock keeps a new value that is entered meanwhile from being overwritten.

    Raises `ValidationError` where no key opens it.
    """
    with transaction.atomic():
        value = rows.filter(pk=pk).select_for_update(no_key=True).values_list(field, flat=True).first()
        if value is None:
            return 0
        if not dry_run:
            rows.filter(pk=pk).update(**{field: value})
    return 1
