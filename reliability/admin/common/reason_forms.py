"""Add and change forms that ask for a reason, which goes into the audit log with the change."""

from typing import Any

from django import forms
from django.http import HttpRequest
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminTextareaWidget

from reliability.core import audit, clock

from .base import actor_of

NAME = "reason"


class RequiresReason:
    """A screen whose form ends with a reason field, for users who may save it."""

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        base = kwargs.pop("form", self.form_for(obj))
        if self._requires_reason(request, obj):
            base = type(base.__name__, (base,), {NAME: _field()})
        return super().get_form(request, obj, change=change, form=base, **kwargs)  # type: ignore[misc]  # the screen's

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        found = super().get_fieldsets(request, obj)  # type: ignore[misc]  # the screen's
        return (
            [*found, ("Reason for the change", {"fields": (NAME,)})] if self._requires_reason(request, obj) else found
        )

    def form_for(self, obj: Any) -> Any:
        """Return the form class for a row, or for a new row where `obj` is `None`."""
        return self.form  # type: ignore[attr-defined]  # the screen's

    def _requires_reason(self, request: HttpRequest, obj: Any) -> bool:
        screen: Any = self
        return bool(screen.has_add_permission(request) if obj is None else screen.has_change_permission(request, obj))


class AuditsChanges(RequiresReason):
    """One of Django's own screens, which also writes its changes, passwords included, into Backstop's audit log."""

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        self._record(request, "create", obj, message)
        return super().log_addition(request, obj, message)  # type: ignore[misc]  # the screen's

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        self._record(request, "change", obj, message)
        return super().log_change(request, obj, message)  # type: ignore[misc]  # the screen's

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        for one in queryset:
            self._record(request, "delete", one, "")
        return super().log_deletions(request, queryset)  # type: ignore[misc]  # the screen's

    def _record(self, request: HttpRequest, verb: str, obj: Any, message: Any) -> None:
        """Record which row and which fields changed, never a value: a value may be a secret."""
        details = {"name": str(obj), "fields": _fields(message)}
        actor = actor_of(request, request.POST.get(NAME, "").replace("\x00", "")[:500])
        audit.record(actor=actor, action=f"{verb}_{obj._meta.model_name}", now=clock.now(), target=obj, details=details)


def changed(form: Any) -> list[str]:
    """Return the names of the changed fields, without the reason and without secrets that were left empty."""

    def is_left(name: str) -> bool:
        hides = isinstance(form.fields[name].widget, UnfoldAdminPasswordWidget)
        return name == NAME or (hides and not form.data.get(form.add_prefix(name)))

    return [name for name in form.changed_data if not is_left(name)]


def _field() -> forms.CharField:
    return forms.CharField(
        max_length=500, widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}), help_text="Stored in the audit log."
    )


def _fields(message: Any) -> list[str]:
    """Return the changed fields from Django's log message, which for a password is a sentence instead of a list."""
    if not isinstance(message, list):
        return [str(message)] if message else []
    return [name for part in message for name in part.get("changed", {}).get("fields", ()) if name != "Reason"]
