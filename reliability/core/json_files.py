"""Shared parts of the importers of JSON files: of workflows and of cron jobs."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, models
from django.db.models.functions import Collate

from reliability.errors import Conflict, InvalidInput
from reliability.formats import strict_json

from .audit import Actor

Errors = dict[str, list[str]]


@dataclass(frozen=True, slots=True)
class Imported:
    """The result of importing one document: `created`, `updated` or `unchanged`."""

    slug: str
    result: str


def parse(text: str) -> list[dict[str, Any]]:
    """Read a file: one object or a list of them. Raises `InvalidInput`, also for a name that an object has twice."""
    try:
        document = strict_json.load(text)
        found = document if isinstance(document, list) else [document]
        if not all(isinstance(one, dict) for one in found):
            raise InvalidInput("The file must be a JSON object, or a list of objects.")
        for one in strict_json.items(text) if isinstance(document, list) else [text]:
            strict_json.members(one)
    except InvalidInput as error:
        raise InvalidInput(error.detail.replace("The body", "The file")) from None
    return found


def load_one(
    load: "Callable[..., list[Imported]]", *, document: Mapping[str, Any], actor: Actor, now: datetime
) -> Imported:
    """Import one document. Raises `InvalidInput` with its errors under the document's own names, and `Conflict`."""
    try:
        (done,) = load(documents=[document], actor=actor, now=now)
    except IntegrityError:
        raise Conflict(
            "Another request created it at the same moment. Nothing was changed: reload and try again."
        ) from None
    except InvalidInput as refusal:
        errors = {name.partition(".")[2] or "non_field_errors": said for name, said in refusal.errors.items()}
        raise InvalidInput(errors=errors) from None
    return done


def lock_rows(rows: "models.QuerySet[Any]", slugs: Iterable[str]) -> None:
    """Lock the rows with these slugs, in the order of slugs (`core.lock_order`)."""
    # The order of the documents is the sender's: two imports that name the same rows in another order would deadlock.
    # Collation "C" compares by code point, as every other place that locks by text does.
    list(rows.filter(slug__in=set(slugs)).order_by(Collate("slug", "C")).select_for_update(no_key=True))


def refuse_duplicates(done: Sequence[Imported], errors: Errors) -> None:
    """Add an error for each document whose slug an earlier one already has."""
    slugs = [one.slug for one in done]
    for i, slug in enumerate(slugs):
        if slug in slugs[:i]:
            errors[f"{i}.slug"] = [f"The slug '{slug}' is used twice."]


def save(row: models.Model, errors: Errors, *, prefix: str, exclude: Sequence[str] = ()) -> bool:
    """Validate and save a row; return whether it was valid. What is not valid is added to `errors` under `prefix`."""
    try:
        row.full_clean(exclude=exclude)
    except ValidationError as error:
        found = error.message_dict if hasattr(error, "error_dict") else {"": error.messages}
        errors.update({f"{prefix}{name}": messages for name, messages in found.items()})
        return False
    row.save()
    return True


def type_error(value: Any, wanted: tuple[tuple[type, ...], str]) -> str:
    """Return an error text if a value is of none of the wanted types, else an empty string."""
    kinds, name = wanted
    # A bool is an int to Python, but `true` is no number to whoever wrote the file.
    sound = bool in kinds if isinstance(value, bool) else isinstance(value, kinds)
    return "" if sound else f"{json.dumps(value)[:80]} is not {name}."
