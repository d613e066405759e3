"""One dead letter on a page: what is wrong, why, and what can be pressed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse

from reliability.admin.common.base import as_uuid
from reliability.admin.common.confirm import ActingScreen, denial
from reliability.admin.common.text_diff import Line, lines_of
from reliability.dead_letters import detail
from reliability.dead_letters.detail import Account, Text, Try
from reliability.delivery import curl
from reliability.formats import json_text
from reliability.models import Attempt, DeadLetter, DeadLetterSource, DeadLetterStatus, Delivery
from reliability.n8n import client as n8n_client

from .change_list import SOURCES, reason_in_words
from .url_filter import STATUS

EDIT_LIMIT = 1024 * 1024
DEAD, N8N = DeadLetterStatus.DEAD, DeadLetterSource.N8N


@dataclass(frozen=True, slots=True)
class Button:
    """What can be pressed; with `why`, it cannot, and that is why."""

    title: str
    icon: str
    url: str = ""
    why: str = ""
    copies: str = ""
    is_first: bool = False


@dataclass(frozen=True, slots=True)
class Shown:
    """A long text as the page shows it; `url` leads to the whole."""

    shown: json_text.Shown
    size: int
    url: str

    @property
    def is_empty(self) -> bool:
        return not self.size


def show(screen: ActingScreen, request: HttpRequest, object_id: str) -> HttpResponse:
    """Answer with the page. Raises `PermissionDenied`, and `Http404` for what is not there."""
    may_view(screen, request)
    pk = as_uuid(object_id)
    letter = detail.find(dead_letter_id=pk) if pk else None
    if letter is None:
        raise Http404("There is no such dead letter.")
    account = detail.take(letter=letter)
    return TemplateResponse(request, "admin/reliability/deadletter/page.html", _context(screen, request, account))


def may_view(screen: ActingScreen, request: HttpRequest) -> None:
    """Raise `PermissionDenied`, which names the permission, where it is missing."""
    if not screen.has_view_permission(request):
        raise PermissionDenied(denial(screen, "view"))


def _context(screen: ActingScreen, request: HttpRequest, account: Account) -> dict[str, Any]:
    letter, now = account.letter, account.now
    buttons = _buttons(screen, request, account)
    return {
        **screen.admin_site.each_context(request),
        "opts": screen.opts,
        "title": f"Dead letter {_name(account)}",
        "now": now,
        "account": account,
        "letter": letter,
        "reason": reason_in_words(letter.reason),
        "source": SOURCES.get(letter.source, letter.source),
        "payload": _shown(account.payload, reverse("admin:reliability_deadletter_payload", args=[letter.pk])),
        "tries": [(one, _body(letter, one)) for one in account.tries],
        "buttons": buttons,
        "hindrances": _hindrances(buttons),
        "is_paused": letter.lane.workflow.is_paused(now=now),
        "group": _group(account),
        "back": _list_address(screen, request),
        "kept": screen.get_preserved_filters(request),
        "is_running": letter.status == DeadLetterStatus.REPLAYING,
    }


def _name(account: Account) -> str:
    return account.key or account.letter.execution_id or str(account.letter.pk)


def _shown(text: Text, url: str, limit: int = detail.SHOWN) -> Shown:
    return Shown(json_text.show(text.begin, limit=limit), text.size, url)


def _body(letter: DeadLetter, one: Try) -> Shown:
    limit = min(detail.SHOWN, max(detail.OLDER_SHOWN, len(one.body.begin) - 1))
    url = reverse("admin:reliability_deadletter_attempts", args=[letter.pk, one.attempt.pk])
    return _shown(one.body, url, limit)


def _list_address(screen: ActingScreen, request: HttpRequest) -> str:
    kept = request.GET.get("_changelist_filters", "")
    return reverse("admin:reliability_deadletter_changelist") + (f"?{kept}" if kept else "")


def _group(account: Account) -> str:
    letter = account.letter
    where = reverse("admin:reliability_deadletter_changelist")
    return f"{where}?{STATUS}=dead&workflow={letter.lane.workflow.slug}&fingerprint={letter.fingerprint}"


def _buttons(screen: ActingScreen, request: HttpRequest, account: Account) -> list[Button]:
    letter = account.letter
    kept = screen.get_preserved_filters(request)
    suffix = "?stay=1" + (f"&{kept}" if kept else "")

    def to(name: str) -> str:
        return reverse(f"admin:reliability_deadletter_{name}", args=[letter.pk]) + suffix

    def here(verb: str) -> str:
        return reverse("admin:reliability_deadletter_change", args=[letter.pk]).removesuffix("change/") + verb + suffix

    def unless(verb: str, *whys: str) -> str:
        missing = "" if screen.may(request, verb) else denial(screen, verb)
        return next((why for why in (*whys, missing) if why), "")

    not_dead = "" if letter.status == DEAD else f"Only what is dead can be: this one is {letter.status}."
    return [
        Button("Replay", "replay", here("replay/"), unless("replay", not_dead, _no_replay(letter)), is_first=True),
        Button("Edit and replay", "edit", to("edit"), unless("edit", not_dead, cannot_edit(account.letter))),
        Button("Retry in n8n", "restart_alt", here("retry/"), unless("replay", not_dead, _no_retry(letter))),
        *_purging(letter, here, unless, not_dead),
        _curl(account),
    ]


def _hindrances(buttons: list[Button]) -> list[tuple[str, str]]:
    """Return each reason once, with the titles of what it keeps from being done."""
    titles: dict[str, list[str]] = {}
    for button in buttons:
        titles.setdefault(button.why, []).append(button.title)
    return [(", ".join(names), why) for why, names in titles.items() if why]


def _purging(letter: DeadLetter, here: Callable[[str], str], unless: Callable[..., str], not_dead: str) -> list[Button]:
    """Offer the purge; or, while it can be undone, that."""
    if letter.status == DeadLetterStatus.PURGED:
        why = "" if letter.erase_at else "Its payload has been erased."
        return [Button("Undo purge", "undo", here("undo-purge/"), unless("purge", why))]
    return [Button("Purge", "delete", here("purge/"), unless("purge", not_dead))]


def _no_replay(letter: DeadLetter) -> str:
    if letter.source == N8N and not n8n_client.is_configured():
        return "n8n reported it, so n8n must retry it: set N8N_API_KEY."
    return "There is no execution to retry." if letter.source == N8N and not letter.execution_id else ""


def cannot_edit(letter: DeadLetter) -> str:
    """Return why a dead letter's payload cannot be edited here; nothing where it can."""
    if letter.source == N8N:
        return "n8n reported it: there is no payload for the webhook."
    size = letter.size  # type: ignore[attr-defined]  # of `letters.find`
    return "Its payload is too long to edit here: send it edited by the API." if size > EDIT_LIMIT else ""


def _no_retry(letter: DeadLetter) -> str:
    if not letter.execution_id:
        return "n8n reported no execution for it."
    return "" if n8n_client.is_configured() else "Set N8N_API_KEY, so that n8n can be asked."


def _curl(account: Account) -> Button:
    letter = account.letter
    if letter.source == N8N:
        return Button("Copy as curl", "terminal", why="n8n reported it: there was no request of ours.")
    if not account.payload.size:
        gone = "is in the archive" if letter.archive_id else "has been erased"
        return Button("Copy as curl", "terminal", why=f"Its payload {gone}.")
    text = account.payload.begin if account.payload.size <= curl.INLINE else None
    last = account.replays[0].delivery if account.replays else letter.delivery
    if account.replays and account.replays[0].is_edited:
        last = letter.delivery
    return Button("Copy as curl", "terminal", copies=curl.command(letter=letter, last=last, payload=text))


def payload(screen: ActingScreen, request: HttpRequest, pk: UUID) -> HttpResponse:
    """Answer with the whole payload, as the sender wrote it."""
    may_view(screen, request)
    text = DeadLetter.objects.filter(pk=pk).values_list("payload", flat=True).first()
    return _plain(text, f"{pk}.json")


def body(screen: ActingScreen, request: HttpRequest, pk: UUID, attempt_id: int) -> HttpResponse:
    """Answer with the whole of what n8n answered to an attempt, as far as it was kept."""
    may_view(screen, request)
    found = Attempt.objects.filter(pk=attempt_id, delivery_id__in=_deliveries(pk))
    return _plain(found.values_list("response_body", flat=True).first(), f"attempt-{attempt_id}.txt")


def _deliveries(pk: UUID) -> list[UUID]:
    own = DeadLetter.objects.filter(pk=pk).values_list("delivery_id", flat=True)
    return [one for one in [*own, *Delivery.objects.filter(dead_letter_id=pk).values_list("pk", flat=True)] if one]


def _plain(text: str | None, name: str) -> HttpResponse:
    """Answer with a stranger's text in such a way that no browser takes it for a page."""
    if text is None:
        raise Http404("There is nothing here.")
    response = HttpResponse(text, content_type="text/plain; charset=utf-8")
    response["X-Content-Type-Options"] = "nosniff"
    response["Content-Security-Policy"] = "sandbox; default-src 'none'"
    response["Content-Disposition"] = f'inline; filename="{name}"'
    return response


def changes(screen: ActingScreen, request: HttpRequest, pk: UUID, delivery_id: UUID) -> HttpResponse:
    """Show what an edited replay sent, against the dead letter's own payload."""
    may_view(screen, request)
    before = DeadLetter.objects.filter(pk=pk).values_list("payload", flat=True).first()
    after = Delivery.objects.filter(pk=delivery_id, dead_letter_id=pk).values_list("payload", flat=True).first()
    if before is None or after is None:
        raise Http404("There is no such replay.")
    values = {
        **screen.admin_site.each_context(request),
        "opts": screen.opts,
        "title": "What was edited",
        "lines": difference(before, after),
        "back": reverse("admin:reliability_deadletter_change", args=[pk]),
    }
    return TemplateResponse(request, "admin/reliability/deadletter/changes.html", values)


def difference(before: str, after: str) -> list[Line]:
    """Compare two payloads, each with one member a line. What is too long to compare is not."""
    if max(len(before), len(after)) > 2 * EDIT_LIMIT:
        return [Line("hunk", "Too long to compare here.")]
    return lines_of(before=readable(before), after=readable(after))


def readable(payload: str) -> str:
    """Lay a payload out for people: it stays the same JSON."""
    return json_text.visible(json_text.indent(payload))
