"""Bulk replay and bulk purge: a dry run first, then one confirmation, which starts one operation.

The page carries its filter, cut-off time, count and the operation's id, signed for the user. So later failures are not
included, the filter cannot be changed on the way, and a confirmation that is submitted twice is one operation.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.core import signing
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.widgets import UnfoldAdminDecimalFieldWidget, UnfoldAdminTextInputWidget, UnfoldBooleanSwitchWidget

from reliability.admin.common.base import actor_of
from reliability.admin.common.confirm import ReasonForm
from reliability.admin.dead_letters import url_filter
from reliability.bulk import candidates, operations
from reliability.core import clock
from reliability.dead_letters.filters import DeadLetterFilter
from reliability.errors import BackstopError
from reliability.models import Operation, OperationKind
from reliability.models.ids import uuid7
from reliability.policies.error_codes import reason_label

TYPED_ABOVE = 100
HOUR = 3600
SALT = "reliability.bulk"


@dataclass(frozen=True, slots=True)
class Kind:
    """One of the two pages: its operation, the permission that it needs, and its texts."""

    kind: OperationKind
    permission: str
    title: str
    button: str
    done: str
    typed_above: int


REPLAY = Kind(
    OperationKind.REPLAY, "reliability.replay_deadletter", "Bulk replay", "Replay", "replayed", typed_above=TYPED_ABOVE
)
PURGE = Kind(OperationKind.PURGE, "reliability.purge_deadletter", "Bulk purge", "Purge", "purged", typed_above=0)


@dataclass(frozen=True, slots=True)
class SignedPreview:
    """The dry run that a page showed, and that its confirmation refers to."""

    operation_id: UUID
    selection: DeadLetterFilter
    cutoff: datetime
    matched: int

    def sign(self, kind: Kind, user: Any) -> str:
        values = [str(self.operation_id), self.selection.as_json(), self.cutoff.isoformat(), self.matched]
        return signing.dumps([*values, str(kind.kind), user.pk], salt=SALT)

    @classmethod
    def read(cls, text: str, kind: Kind, user: Any) -> "SignedPreview | None":
        """Return what was signed for this user and page within the last hour, or `None`."""
        try:
            pk, frozen, cutoff, matched, name, owner = signing.loads(text, salt=SALT, max_age=HOUR)
        except (signing.BadSignature, ValueError):
            return None
        if (name, owner) != (kind.kind, user.pk):
            return None
        return cls(UUID(pk), DeadLetterFilter.from_json(frozen), datetime.fromisoformat(cutoff), matched)


class PurgeForm(ReasonForm):
    """Asks for the reason and, above `typed_above` matches, for their number."""

    typed = forms.CharField(required=False, widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off"}))

    def __init__(self, *args: Any, matched: int, typed_above: int, **options: Any) -> None:
        super().__init__(*args, **options)
        self.matched = matched
        if matched > typed_above:
            self.fields["typed"].label = f"Type {matched} to confirm"
            self.fields["typed"].widget.attrs["inputmode"] = "numeric"
        else:
            del self.fields["typed"]

    def clean_typed(self) -> str:
        text: str = self.cleaned_data["typed"]
        if text.replace(",", "").replace(" ", "") != str(self.matched):
            raise forms.ValidationError(f"Type the number of matches: {self.matched}.")
        return text

    def options(self) -> dict[str, Any]:
        """Return the options for `operations.submit`."""
        return {}


class ReplayForm(PurgeForm):
    """Asks for the rate, the canary and the failure rate that stops the replay."""

    rate = forms.FloatField(
        label="Replays per second",
        initial=operations.DEFAULT_RATE,
        min_value=operations.LOWEST_RATE,
        max_value=operations.HIGHEST_RATE,
        widget=UnfoldAdminDecimalFieldWidget(attrs={"step": "any"}),
    )
    canary = forms.BooleanField(
        label="Canary: send one first",
        required=False,
        initial=True,
        widget=UnfoldBooleanSwitchWidget,
        help_text="The rest are sent once it has recovered; if it fails, none of them are.",
    )
    stop_at = forms.FloatField(
        label="Stop above failure rate (%)",
        required=False,
        initial=20,
        min_value=0,
        max_value=100,
        widget=UnfoldAdminDecimalFieldWidget(attrs={"step": "any"}),
        help_text="Share of the finished replays that failed again. Empty: never stop.",
    )
    field_order = ("rate", "canary", "stop_at", "reason", "typed")

    def options(self) -> dict[str, Any]:
        share = self.cleaned_data["stop_at"]
        return {
            "rate_per_second": self.cleaned_data["rate"],
            "canary": self.cleaned_data["canary"],
            "stop_failure_rate": None if share is None else share / 100,
        }


FORMS: dict[OperationKind, type[PurgeForm]] = {OperationKind.REPLAY: ReplayForm, OperationKind.PURGE: PurgeForm}


def require_permission(request: HttpRequest, permission: str) -> None:
    """Raises `PermissionDenied`, which names the permission."""
    if not request.user.has_perm(permission):
        raise PermissionDenied(f"You need the permission {permission} to do this.")


def replay(request: HttpRequest) -> HttpResponse:
    return _view(request, REPLAY)


def purge(request: HttpRequest) -> HttpResponse:
    return _view(request, PURGE)


def _view(request: HttpRequest, kind: Kind) -> HttpResponse:
    """Show the dry run, or start the operation that it confirms."""
    require_permission(request, kind.permission)
    if request.method != "POST":
        return _preview_page(request, kind)
    shown = SignedPreview.read(request.POST.get("shown", ""), kind, request.user)
    if shown is None:
        messages.error(
            request,
            "Nothing was changed: the page was over an hour old or another user's. Check the numbers again.",
        )
        return HttpResponseRedirect(request.get_full_path())
    if Operation.objects.filter(pk=shown.operation_id).exists():
        return _redirect_to(shown.operation_id)
    form = FORMS[kind.kind](request.POST, matched=shown.matched, typed_above=kind.typed_above)
    if not form.is_valid():
        return _preview_page(request, kind, form)
    return _start(request, kind, shown, form)


def _start(request: HttpRequest, kind: Kind, shown: SignedPreview, form: PurgeForm) -> HttpResponse:
    now = clock.now()
    if operations.count(selection=shown.selection, now=shown.cutoff, kind=kind.kind) > shown.matched:
        messages.error(
            request, "Nothing was changed: more dead letters match now than the page showed. Check the numbers again."
        )
        return HttpResponseRedirect(request.get_full_path())
    try:
        operations.submit(
            kind=kind.kind,
            selection=shown.selection,
            actor=actor_of(request, form.cleaned_data["reason"]),
            now=now,
            cutoff=shown.cutoff,
            operation_id=shown.operation_id,
            **form.options(),
        )
    except BackstopError as refusal:
        messages.error(request, str(refusal))
        return _preview_page(request, kind, form)
    return _redirect_to(shown.operation_id)


def _redirect_to(operation_id: UUID) -> HttpResponse:
    return HttpResponseRedirect(reverse("admin:reliability_operation_page", args=[operation_id]))


def _preview_page(request: HttpRequest, kind: Kind, form: PurgeForm | None = None) -> HttpResponse:
    """Show what the filter matches now. An invalid filter matches nothing, and the page names the error."""
    reading = url_filter.read(request.GET)
    now = clock.now()
    values: dict[str, Any] = {"reading": reading, "filter": url_filter.filter_labels(reading)}
    if not reading.problems:
        rate = _rate(form)
        looked = operations.preview(kind=kind.kind, selection=reading.selection, now=now, rate_per_second=rate)
        shown = SignedPreview(uuid7(), reading.selection, now, looked.matched)
        made = FORMS[kind.kind](
            form.data if form else None, matched=looked.matched, typed_above=kind.typed_above
        )  # keeps the submitted values beside the new numbers
        values |= {"looked": looked, "form": made, "shown": shown.sign(kind, request.user), "rate": rate}
        values["skipped"] = [(candidates.LABELS.get(cause, cause), n) for cause, n in looked.skipped.items()]
        values["reasons"] = [(reason_label(name) or "Unknown", n) for name, n in looked.by_reason.items()]
    context = {
        **admin.site.each_context(request),
        "title": kind.title,
        "kind": kind,
        "now": now,
        "running": Operation.objects.filter(state__in=operations.OPEN)[:3],
        "back": f"{reverse('admin:reliability_deadletter_changelist')}?{request.GET.urlencode()}",
        **values,
    }
    status = 400 if reading.problems or form else 200
    return TemplateResponse(request, "admin/reliability/bulk.html", context, status=status)


def _rate(form: PurgeForm | None) -> float:
    return float((form and form.cleaned_data.get("rate")) or operations.DEFAULT_RATE)
