"""Edit and replay in three steps: edit the payload, review the changes, send."""

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.widgets import UnfoldAdminTextareaWidget

from reliability.admin.common.base import actor_of
from reliability.admin.common.confirm import ActionScreen, ReasonForm, denial
from reliability.core import clock
from reliability.dead_letters import detail, replay
from reliability.errors import BackstopError, InvalidInput
from reliability.formats import json_text, strict_json
from reliability.models import DeadLetter, DeadLetterStatus, digest_of

from .detail import EDIT_LIMIT, cannot_edit, difference, readable

MONOSPACE = {
    "rows": 24,
    "dir": "ltr",
    "spellcheck": "false",
    "autocomplete": "off",
    "autocapitalize": "off",
    "class": "bs-editor",
}


class EditForm(ReasonForm):
    """Asks for the edited payload and the reason."""

    payload = forms.CharField(
        strip=False,
        max_length=2 * EDIT_LIMIT,
        widget=UnfoldAdminTextareaWidget(attrs=MONOSPACE),
        help_text="A JSON object or array.",
    )
    field_order = ("payload", "reason")

    def clean_payload(self) -> str:
        """Return the text without white space between tokens, otherwise unchanged: numbers keep their spelling."""
        text: str = self.cleaned_data["payload"].replace("\r\n", "\n")
        try:
            document = strict_json.load(text)
        except InvalidInput as error:
            # The error's line and column refer to the text as it is in the field.
            raise forms.ValidationError(f"The payload is not valid JSON. {_of_payload(error.detail)}") from error
        if not isinstance(document, dict | list):
            raise forms.ValidationError("The payload must be a JSON object or array.")
        return json_text.compact(text)


def _of_payload(text: str) -> str:
    return text.replace("The body", "The payload")


def edit(screen: ActionScreen, request: HttpRequest, pk: UUID) -> HttpResponse:
    """Ask for the payload, show the changes, and send it once they are confirmed.

    Raises `PermissionDenied`, and `Http404` if there is no such dead letter.
    """
    if not screen.may(request, "edit"):
        raise PermissionDenied(denial(screen, "edit"))
    letter = detail.find(dead_letter_id=pk)
    if letter is None:
        raise Http404("This dead letter does not exist.")
    if why := _refusal(letter):
        messages.warning(request, f"Nothing was sent. {why}")
        return HttpResponseRedirect(_page(screen, request, pk))
    before = DeadLetter.objects.values_list("payload", flat=True).get(pk=pk)
    form = EditForm(request.POST) if request.method == "POST" else EditForm(initial=_initial(before))
    if request.method != "POST" or "again" in request.POST or not form.is_valid():
        if "again" in request.POST:
            form = EditForm(initial={name: request.POST.get(name, "") for name in form.fields})
        return _answer(screen, request, letter, {"form": form})
    if "confirmed" in request.POST:
        return _send(screen, request, letter, before, form)
    return _answer(screen, request, letter, _compared(before, form))


def _refusal(letter: DeadLetter) -> str:
    if letter.status != DeadLetterStatus.DEAD:
        return f"Can't replay: the dead letter is {letter.status}."
    return cannot_edit(letter)


def _initial(before: str) -> dict[str, str]:
    return {"payload": readable(before)}


def is_same(before: str, after: str) -> bool:
    """Whether two JSON texts have the same value, whatever the order of their keys."""
    try:
        return digest_of(strict_json.load(before)) == digest_of(strict_json.load(after))
    except InvalidInput:
        return before == after


def _compared(before: str, form: EditForm) -> dict[str, Any]:
    after = form.cleaned_data["payload"]
    same = is_same(before, after)
    lines = [] if same else difference(before, after)
    return {"form": form, "is_preview": True, "is_same": same, "lines": lines, "after": readable(after)}


def _send(screen: ActionScreen, request: HttpRequest, letter: DeadLetter, before: str, form: EditForm) -> HttpResponse:
    """Send the payload: with a new idempotency key if it changed, else as a plain replay."""
    after = form.cleaned_data["payload"]
    changed = None if is_same(before, after) else after
    actor = actor_of(request, form.cleaned_data["reason"])
    try:
        replay.replay(dead_letter_id=letter.pk, actor=actor, now=clock.now(), payload=changed)
    except BackstopError as refusal:
        messages.warning(request, f"Nothing was sent. {refusal}")
    else:
        key = "edited payload, new idempotency key" if changed else "payload unchanged, same idempotency key"
        messages.success(request, f"1 dead letter queued for replay: {key}.")
    return HttpResponseRedirect(_page(screen, request, letter.pk))


def _page(screen: ActionScreen, request: HttpRequest, pk: UUID) -> str:
    kept = screen.get_preserved_filters(request)
    return reverse("admin:reliability_deadletter_change", args=[pk]) + (f"?{kept}" if kept else "")


def _answer(screen: ActionScreen, request: HttpRequest, letter: DeadLetter, values: dict[str, Any]) -> HttpResponse:
    shared = {
        **screen.admin_site.each_context(request),
        "opts": screen.opts,
        "title": "Edit and replay",
        "letter": letter,
        "key": letter.delivery.idempotency_key if letter.delivery else str(letter.pk),
        "back": _page(screen, request, letter.pk),
    }
    return TemplateResponse(request, "admin/reliability/deadletter/edit.html", shared | values)
