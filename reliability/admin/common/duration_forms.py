"""Asks how long an action lasts, such as a pause or a forced open breaker."""

from datetime import UTC, datetime, timedelta
from typing import Any

from django import forms
from django.utils.dateparse import parse_datetime
from django.utils.timezone import is_naive, make_aware
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from reliability.core import clock

from .confirm import ReasonForm

LASTING = (("30", "30 minutes"), ("60", "1 hour"), ("240", "4 hours"), ("1440", "24 hours"), ("", "No end date"))


class EndForm(ReasonForm):
    """Asks for a duration or an end. `until` is the end as a moment, or `None` for no end."""

    lasts = forms.ChoiceField(
        choices=LASTING, required=False, initial="60", label="Duration", widget=UnfoldAdminSelectWidget
    )
    until = forms.CharField(
        required=False,
        max_length=40,
        label="Or until (UTC)",
        help_text="For example 2026-03-01 14:30. Overrides the duration above.",
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off"}),
    )

    def clean(self) -> dict[str, Any]:
        """Reduce both fields to one moment, `until`."""
        values = super().clean() or {}
        text, minutes = (values.get("until") or "").strip(), values.pop("lasts", "")
        now = clock.now()
        values["until"] = _moment(text) if text else now + timedelta(minutes=int(minutes)) if minutes else None
        if text and values["until"] is None:
            self.add_error("until", "Enter a date and time, for example 2026-03-01 14:30.")
        elif text and values["until"] <= now:
            self.add_error("until", "Enter a time in the future.")
        return values


def _moment(text: str) -> datetime | None:
    """Parse a moment, in UTC if it names no zone. What overflows in UTC is refused: it could not be read back."""
    try:
        found = parse_datetime(text)
        if found is None:
            return None
        return make_aware(found) if is_naive(found) else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
