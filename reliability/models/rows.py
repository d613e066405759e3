"""Model instances from rows of hand-written SQL, for the few queries that run with every request or check."""

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from django.db import connection, models

M = TypeVar("M", bound=models.Model)


class Columns(Generic[M]):
    """A model's columns under a table's alias, and instances from their values.

    Values are converted by the fields as the ORM does (`from_db_value`).
    """

    def __init__(self, model: type[M], alias: str) -> None:
        fields = model._meta.concrete_fields
        self.model = model
        self.names = [field.attname for field in fields]
        self.sql = ", ".join(f'{alias}."{field.column}"' for field in fields)
        self._converters = [
            (place, field.from_db_value) for place, field in enumerate(fields) if hasattr(field, "from_db_value")
        ]

    def instance(self, values: Sequence[Any]) -> M:
        """Return the instance with these values, given in the order of the columns."""
        converted = list(values)
        for place, convert in self._converters:
            converted[place] = convert(converted[place], None, connection)
        return self.model.from_db("default", self.names, converted)

    def __len__(self) -> int:
        return len(self.names)
