"""Exports the filtered list as a file."""

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import (
    HttpRequest,
    HttpResponseBase,
    HttpResponseRedirect,
    StreamingHttpResponse,
)
from django.urls import reverse

from reliability.admin.common.base import actor_of
from reliability.admin.common.confirm import ActionScreen, denial
from reliability.core import clock
from reliability.dead_letters import export as out

from .url_filter import read

TYPES = {"jsonl": "application/jsonl", "csv": "text/csv"}


class ExportForm(forms.Form):
    """Asks for the file format and the reason, which goes into the audit log."""

    kind = forms.ChoiceField(choices=[(kind, kind) for kind in TYPES])
    reason = forms.CharField(max_length=500)


def export(screen: ActionScreen, request: HttpRequest) -> HttpResponseBase:
    """Return the file for a POST. Raises `PermissionDenied`, naming the permission."""
    if not screen.may(request, "export"):
        raise PermissionDenied(denial(screen, "export"))
    back = HttpResponseRedirect(f"{reverse('admin:reliability_deadletter_changelist')}?{request.GET.urlencode()}")
    if request.method != "POST":  # the sign-in page redirects here by GET if the session ended meanwhile
        messages.warning(request, "Nothing was exported. Submit it again.")
        return back
    form, reading = ExportForm(request.POST), read(request.GET)
    wrong = [*reading.problems, *([] if form.is_valid() else ["Choose a format and give a reason."])]
    if wrong:
        messages.error(request, f"Nothing was exported. {' '.join(wrong)}")
        return back
    kind, actor, now = form.cleaned_data["kind"], actor_of(request, form.cleaned_data["reason"]), clock.now()
    pieces = out.export(selection=reading.selection, kind=kind, actor=actor, now=now)
    response = StreamingHttpResponse(pieces, content_type=f"{TYPES[kind]}; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="dead-letters-{now:%Y%m%d-%H%M%S}.{kind}"'
    response["Cache-Control"] = "no-store"
    return response
