"""Encrypts the stored secrets again with the current `SECRET_KEY`, so that an earlier key can be removed."""

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
class Reencrypted:
    """One kind of secret: how many were encrypted again, and the primary keys of rows that no key decrypts."""

    name: str
    done: int
    lost: tuple[str, ...]


def reencrypt(*, actor: Actor, now: datetime, dry_run: bool = False) -> list[Reencrypted]:
    """Decrypt every secret with any known key, and encrypt it with `SECRET_KEY`. Idempotent."""
    found = [_reencrypt(model, field, dry_run=dry_run) for model, field in _fields()]
    if not dry_run:
        counts = {one.name: one.done for one in found}
        audit.record(actor=actor, action="reencrypt", now=now, count=sum(counts.values()), details=counts)
    return found


def _fields() -> Iterator[tuple[type[models.Model], str]]:
    for model in apps.get_models():
        for field in model._meta.get_fields():
            if isinstance(field, EncryptedTextField):
                yield model, field.name


def _reencrypt(model: type[models.Model], field: str, *, dry_run: bool) -> Reencrypted:
    rows: Any = model._default_manager.exclude(**{field: ""}).order_by("pk")
    done, lost = 0, []
    for pk in rows.values_list("pk", flat=True):
        try:
            done += _one(rows, pk, field, dry_run=dry_run)
        except ValidationError:
            lost.append(str(pk))
    return Reencrypted(f"{model._meta.verbose_name}: {field.replace('_', ' ')}", done, tuple(lost))


def _one(rows: Any, pk: Any, field: str, *, dry_run: bool) -> int:
    """Encrypt one row's secret again, under a row lock: a value that is saved meanwhile is not overwritten.

    Raises `ValidationError` if no key decrypts it.
    """
    with transaction.atomic():
        value = rows.filter(pk=pk).select_for_update(no_key=True).values_list(field, flat=True).first()
        if value is None:
            return 0
        if not dry_run:
            rows.filter(pk=pk).update(**{field: value})
    return 1
