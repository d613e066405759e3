"""Asks for how long: what is held by hand has an end, unless somebody says that it has none."""

from datetime import UTC, datetime, timedelta
from typing import Any

from django import forms
from django.utils.dateparse import parse_datetime
from django.utils.timezone import is_naive, make_aware
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from reliability.core import clock

from .confirm import ReasonForm

LASTING = (("30", "30 minutes"), ("60", "1 hour"), ("240", "4 hours"), ("1440", "24 hours"), ("", "No end"))


class EndForm(ReasonForm):
    """Why, and until when: `until` is the moment, or `None`."""

    lasts = forms.ChoiceField(
        choices=LASTING, required=False, initial="60", label="For how long", widget=UnfoldAdminSelectWidget
    )
    until = forms.CharField(
        required=False,
        max_length=40,
        label="Or until (UTC)",
        help_text="Such as 2026-03-01 14:30. It goes before the choice above.",
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off"}),
    )

    def clean(self) -> dict[str, Any]:
        """Turn both fields into the one moment that is meant."""
        values = super().clean() or {}
        text, minutes = (values.get("until") or "").strip(), values.pop("lasts", "")
        now = clock.now()
        values["until"] = _moment(text) if text else now + timedelta(minutes=int(minutes)) if minutes else None
        if text and values["until"] is None:
            self.add_error("until", "A moment is needed, such as 2026-03-01 14:30.")
        elif text and values["until"] <= now:
            self.add_error("until", "It lies in the past.")
        return values


def _moment(text: str) -> datetime | None:
    """Read a moment, in UTC where it names no zone. One that UTC cannot tell would be kept, and never be read again."""
    try:
        found = parse_datetime(text)
        if found is None:
            return None
        return make_aware(found) if is_naive(found) else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
