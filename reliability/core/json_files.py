"""What the JSON files of workflows and of cron jobs have in common."""

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
    """What became of one document: `created`, `updated` or `unchanged`."""

    slug: str
    result: str


def parse(text: str) -> list[dict[str, Any]]:
    """Read a file: one object or a list of them. Raises `InvalidInput`, also for a name that an object has twice."""
    try:
        document = strict_json.load(text)
        found = document if isinstance(document, list) else [document]
        if not all(isinstance(one, dict) for one in found):
            raise InvalidInput("Such a file is a JSON object, or a list of them.")
        for one in strict_json.items(text) if isinstance(document, list) else [text]:
            strict_json.members(one)
    except InvalidInput as error:
        raise InvalidInput(error.detail.replace("The body", "The file")) from None
    return found


def load_one(
    load: "Callable[..., list[Imported]]", *, document: Mapping[str, Any], actor: Actor, now: datetime
) -> Imported:
    """Bring one row in line with one document. Raises `InvalidInput`, its errors named as the document's own."""
    try:
        (done,) = load(documents=[document], actor=actor, now=now)
    except IntegrityError:
        raise Conflict("Somebody else made it at the same moment. Nothing was changed: look again.") from None
    except InvalidInput as refusal:
        errors = {name.partition(".")[2] or "non_field_errors": said for name, said in refusal.errors.items()}
        raise InvalidInput(errors=errors) from None
    return done


def lock_rows(rows: "models.QuerySet[Any]", slugs: Iterable[str]) -> None:
    """Lock the rows of these slugs, in that order (`core.lock_order`), whatever the order of the documents."""
    list(rows.filter(slug__in=set(slugs)).order_by(Collate("slug", "C")).select_for_update(no_key=True))


def refuse_duplicates(done: Sequence[Imported], errors: Errors) -> None:
    """Note an error for each document whose slug another before it had."""
    slugs = [one.slug for one in done]
    for i, slug in enumerate(slugs):
        if slug in slugs[:i]:
            errors[f"{i}.slug"] = [f"'{slug}' is there twice."]


def save(row: models.Model, errors: Errors, *, prefix: str, exclude: Sequence[str] = ()) -> bool:
    """Save a row that makes sense; note what does not, and return whether it did."""
    try:
        row.full_clean(exclude=exclude)
    except ValidationError as error:
        found = error.message_dict if hasattr(error, "error_dict") else {"": error.messages}
        errors.update({f"{prefix}{name}": messages for name, messages in found.items()})
        return False
    row.save()
    return True


def type_error(value: Any, wanted: tuple[tuple[type, ...], str]) -> str:
    """Return what is wrong with a value that should be of one of some types; nothing where it is."""
    kinds, name = wanted
    sound = bool in kinds if isinstance(value, bool) else isinstance(value, kinds)
    return "" if sound else f"{json.dumps(value)[:80]} is not {name}."
