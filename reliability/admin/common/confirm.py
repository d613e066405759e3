"""Actions with a confirmation page: it shows what happens to how many rows and asks for a reason. Only a POST acts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.decorators import action
from unfold.widgets import UnfoldAdminTextareaWidget

from reliability.core import clock
from reliability.core.audit import Actor
from reliability.errors import BackstopError

from .base import Screen, actor_of, as_uuid

# The confirmation posts each id as a field; Django accepts 1,000 fields per form (DATA_UPLOAD_MAX_NUMBER_FIELDS).
LIMIT = 900


class ReasonForm(forms.Form):
    """Asks for the reason, which goes into the audit log."""

    reason = forms.CharField(
        max_length=500, widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}), help_text="Stored in the audit log."
    )


@dataclass(frozen=True)
class Verb:
    """One action on rows: its texts, and the function to call for each row with the row's id as `argument`.

    `done` completes the message after it, "3 workflows …". `permission` is the verb of the model's permission if it
    differs from `key`. An action without `many` is offered for a single row only. `initial` returns the form's values.
    """

    key: str
    title: str
    done: str
    call: Callable[..., object]
    argument: str
    form: type[ReasonForm] = ReasonForm
    warning: str = ""
    permission: str = ""
    many: bool = True
    initial: Callable[[UUID], dict[str, Any]] | None = None

    @property
    def needs(self) -> str:
        return self.permission or self.key


class ActionScreen(Screen):
    """A screen with `verbs`: each becomes a bulk action of the list and a button on the row's page."""

    verbs: tuple[Verb, ...] = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for verb in cls.verbs:
            setattr(cls, f"{verb.key}_selected", _for_chosen(verb))
            setattr(cls, f"{verb.key}_one", _for_one(verb))
            setattr(cls, f"has_{verb.needs}_permission", _permission(verb.needs))
        cls.actions = tuple(f"{verb.key}_selected" for verb in cls.verbs if verb.many)
        cls.actions_detail = tuple(f"{verb.key}_one" for verb in cls.verbs)

    def key_of(self, text: str) -> Any:
        """Return the primary key in a URL, or `None` if it is not a valid key."""
        return as_uuid(text)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the list. Raises `PermissionDenied` if the permission was removed after the page was opened."""
        verb = next((one for one in self.verbs if f"{one.key}_selected" == request.POST.get("action")), None)
        if verb is not None and not self.may(request, verb.needs):
            raise PermissionDenied(denial(self, verb.needs))
        return super().changelist_view(request, extra_context)

    def response_action(self, request: HttpRequest, queryset: "QuerySet[Any]") -> HttpResponseBase | None:
        """Run an action on the selected rows, unless an id in the form is invalid."""
        if any(self.key_of(one) is None for one in request.POST.getlist(ACTION_CHECKBOX_NAME)):
            messages.error(request, f"The selection holds an invalid {self.opts.verbose_name} id. Nothing was changed.")
            return HttpResponseRedirect(request.get_full_path())
        response: HttpResponseBase | None = super().response_action(request, queryset)
        return response


def _for_chosen(verb: Verb) -> Callable[..., HttpResponse | None]:
    @admin.action(description=f"{verb.title} …", permissions=[verb.needs])
    def act(screen: Screen, request: HttpRequest, queryset: "QuerySet[Any]") -> HttpResponse | None:
        return ask(screen, request, verb, list(queryset.values_list("pk", flat=True)[: LIMIT + 1]))

    act.__name__ = f"{verb.key}_selected"
    return act


def _for_one(verb: Verb) -> Callable[..., HttpResponse | None]:
    def act(screen: ActionScreen, request: HttpRequest, object_id: str) -> HttpResponse | None:
        pk = screen.key_of(object_id)
        if pk is None or not screen.get_queryset(request).filter(pk=pk).exists():
            raise Http404
        return ask(screen, request, verb, [pk])

    act.__name__ = f"{verb.key}_one"
    decorate = action(description=verb.title, url_path=verb.key.replace("_", "-"), permissions=[verb.needs])
    return _naming(verb, decorate(act))


def _naming(verb: Verb, checked: Callable[..., HttpResponse | None]) -> Callable[..., HttpResponse | None]:
    """Name the missing permission; Unfold's own check does not."""

    @wraps(checked)
    def act(screen: ActionScreen, request: HttpRequest, object_id: str) -> HttpResponse | None:
        if not screen.may(request, verb.needs):
            raise PermissionDenied(denial(screen, verb.needs))
        return checked(screen, request, object_id)

    return act


def denial(screen: Screen, name: str) -> str:
    """Return the message for a user who lacks a permission."""
    return f"You need the permission {screen.opts.app_label}.{name}_{screen.opts.model_name} to do this."


def _permission(name: str) -> Callable[..., bool]:
    def may(screen: Screen, request: HttpRequest, object_id: object = None) -> bool:
        return screen.may(request, name)

    return may


def ask(screen: Screen, request: HttpRequest, verb: Verb, ids: Sequence[Any]) -> HttpResponse | None:
    """Show the confirmation page; once it is submitted, act on each row and report the result."""
    if not screen.may(request, verb.needs):
        raise PermissionDenied(denial(screen, verb.needs))
    if len(ids) > LIMIT:
        text = f"Select {LIMIT:,} rows or fewer. For more dead letters, use bulk replay or bulk purge with a filter."
        messages.error(request, text)
        return None
    answered = request.method == "POST" and "confirmed" in request.POST
    initial = verb.initial(ids[0]) if verb.initial and ids else None
    form = verb.form(request.POST) if answered else verb.form(initial=initial)
    if answered and form.is_valid():
        _act(screen.opts, request, verb, ids, form)
        return HttpResponseRedirect(_back(screen, request, ids))
    return TemplateResponse(request, "admin/reliability/confirm.html", _context(screen, request, verb, ids, form))


def _act(opts: Any, request: HttpRequest, verb: Verb, ids: Sequence[Any], form: ReasonForm) -> None:
    values = dict(form.cleaned_data)
    actor = actor_of(request, values.pop("reason"))
    refusals = [refusal for pk in ids if (refusal := _try(verb, pk, actor, values))]
    done = len(ids) - len(refusals)
    if done:
        noun = opts.verbose_name if done == 1 else opts.verbose_name_plural
        messages.success(request, f"{done:,} {noun} {verb.done}.")
    for text in sorted(set(refusals))[:5]:
        messages.warning(request, f"{refusals.count(text):,} skipped: {text}")


def _try(verb: Verb, pk: UUID, actor: Actor, values: dict[str, Any]) -> str:
    """Act on one row; return why it was refused, or an empty string."""
    try:
        verb.call(**{verb.argument: pk}, actor=actor, now=clock.now(), **values)
    except BackstopError as refusal:
        return str(refusal)
    return ""


def _context(screen: Screen, request: HttpRequest, verb: Verb, ids: Sequence[Any], form: ReasonForm) -> dict[str, Any]:
    shown = screen.model._default_manager.filter(pk__in=list(ids)[:20])
    return {
        **screen.admin_site.each_context(request),
        "title": verb.title,
        "verb": verb,
        "ids": ids,
        "shown": shown,
        "more": max(0, len(ids) - 20),
        "form": form,
        "opts": screen.opts,
        "action": request.POST.get("action", ""),
        "back": _back(screen, request, ids),
    }


def _back(screen: Screen, request: HttpRequest, ids: Sequence[Any]) -> str:
    """Return the page that the action was started from: the row's page, or the list with its filters."""
    name = f"admin:{screen.opts.app_label}_{screen.opts.model_name}"
    kept = parse_qs(screen.get_preserved_filters(request)).get("_changelist_filters", [""])[0]
    if "stay" in request.GET and len(ids) == 1:
        return f"{reverse(f'{name}_change', args=ids)}?{screen.get_preserved_filters(request)}"
    return f"{reverse(f'{name}_changelist')}{'?' if kept else ''}{kept}"
