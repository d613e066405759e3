"""Form fields of cron jobs."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.forms.fields import InvalidJSONInput

from reliability.errors import InvalidInput
from reliability.formats import strict_json


class PayloadField(forms.JSONField):
    """A JSON field with the API's limits: too deep or unstorable JSON is refused and shown again as it was typed."""

    def to_python(self, value: Any) -> Any:
        if isinstance(value, str) and (why := _wrong(value)):
            raise ValidationError(why)
        return super().to_python(value)

    def bound_data(self, data: Any, initial: Any) -> Any:
        if isinstance(data, str) and _wrong(data):
            return InvalidJSONInput(data)
        return super().bound_data(data, initial)


def _wrong(text: str) -> str:
    """Return the error in a JSON text, or an empty string. The field itself checks for empty input."""
    if not text.strip():
        return ""
    try:
        strict_json.load(text)
    except InvalidInput as error:
        return str(error).replace("The body", "The payload")
    return ""
