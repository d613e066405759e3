"""The page of one dead letter: the error, its reason, and the actions."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse

from reliability.admin.common.base import as_uuid
from reliability.admin.common.confirm import ActionScreen, denial
from reliability.admin.common.text_diff import Line, lines_of
from reliability.dead_letters import detail
from reliability.dead_letters.detail import AttemptRow, DeadLetterDetail, Text
from reliability.delivery import curl
from reliability.formats import json_text
from reliability.models import Attempt, DeadLetter, DeadLetterSource, DeadLetterStatus, Delivery
from reliability.n8n import client as n8n_client
from reliability.policies.error_codes import reason_label

from .url_filter import STATUS

EDIT_LIMIT = 1024 * 1024
DEAD, N8N = DeadLetterStatus.DEAD, DeadLetterSource.N8N


@dataclass(frozen=True, slots=True)
class Button:
    """A button. With `why` it is disabled, and `why` is the reason shown below."""

    title: str
    icon: str
    url: str = ""
    why: str = ""
    copies: str = ""
    is_first: bool = False


@dataclass(frozen=True, slots=True)
class CutText:
    """A long text, cut for the page; `url` serves all of it."""

    shown: json_text.Shown
    size: int
    url: str

    @property
    def is_empty(self) -> bool:
        return not self.size


def show(screen: ActionScreen, request: HttpRequest, object_id: str) -> HttpResponse:
    """Show the page. Raises `PermissionDenied`, and `Http404` if there is no such dead letter."""
    may_view(screen, request)
    pk = as_uuid(object_id)
    letter = detail.find(dead_letter_id=pk) if pk else None
    if letter is None:
        raise Http404("This dead letter does not exist.")
    account = detail.load(letter=letter)
    return TemplateResponse(request, "admin/reliability/deadletter/page.html", _context(screen, request, account))


def may_view(screen: ActionScreen, request: HttpRequest) -> None:
    """Raise `PermissionDenied`, naming the permission, if the user may not view dead letters."""
    if not screen.has_view_permission(request):
        raise PermissionDenied(denial(screen, "view"))


def _context(screen: ActionScreen, request: HttpRequest, account: DeadLetterDetail) -> dict[str, Any]:
    letter, now = account.letter, account.now
    buttons = _buttons(screen, request, account)
    return {
        **screen.admin_site.each_context(request),
        "opts": screen.opts,
        "title": f"Dead letter {_name(account)}",
        "now": now,
        "account": account,
        "letter": letter,
        "reason": reason_label(letter.reason),
        "source": letter.get_source_display(),
        "payload": _shown(account.payload, reverse("admin:reliability_deadletter_payload", args=[letter.pk])),
        "tries": [(one, _body(letter, one)) for one in account.attempts],
        "buttons": buttons,
        "disabled_reasons": _disabled_reasons(buttons),
        "is_paused": letter.lane.workflow.is_paused(now=now),
        "group": _group(account),
        "back": _list_address(screen, request),
        "kept": screen.get_preserved_filters(request),
        "is_running": letter.status == DeadLetterStatus.REPLAYING,
    }


def _name(account: DeadLetterDetail) -> str:
    return account.key or account.letter.execution_id or str(account.letter.pk)


def _shown(text: Text, url: str, limit: int = detail.CHARACTERS_SHOWN) -> CutText:
    return CutText(json_text.show(text.begin, limit=limit), text.size, url)


def _body(letter: DeadLetter, one: AttemptRow) -> CutText:
    limit = min(detail.CHARACTERS_SHOWN, max(detail.OLDER_CHARACTERS_SHOWN, len(one.body.begin) - 1))
    url = reverse("admin:reliability_deadletter_attempts", args=[letter.pk, one.attempt.pk])
    return _shown(one.body, url, limit)


def _list_address(screen: ActionScreen, request: HttpRequest) -> str:
    kept = request.GET.get("_changelist_filters", "")
    return reverse("admin:reliability_deadletter_changelist") + (f"?{kept}" if kept else "")


def _group(account: DeadLetterDetail) -> str:
    letter = account.letter
    where = reverse("admin:reliability_deadletter_changelist")
    return f"{where}?{STATUS}=dead&workflow={letter.lane.workflow.slug}&fingerprint={letter.fingerprint}"


def _buttons(screen: ActionScreen, request: HttpRequest, account: DeadLetterDetail) -> list[Button]:
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

    not_dead = "" if letter.status == DEAD else f"Only for dead letters with status dead; this one is {letter.status}."
    return [
        Button("Replay", "replay", here("replay/"), unless("replay", not_dead, _no_replay(letter)), is_first=True),
        Button("Edit and replay", "edit", to("edit"), unless("edit", not_dead, cannot_edit(account.letter))),
        Button("Retry in n8n", "restart_alt", here("retry/"), unless("replay", not_dead, _no_retry(letter))),
        *_purging(letter, here, unless, not_dead),
        _curl(account),
    ]


def _disabled_reasons(buttons: list[Button]) -> list[tuple[str, str]]:
    """Return each reason once, with the titles of the buttons that it disables."""
    titles: dict[str, list[str]] = {}
    for button in buttons:
        titles.setdefault(button.why, []).append(button.title)
    return [(", ".join(names), why) for why, names in titles.items() if why]


def _purging(letter: DeadLetter, here: Callable[[str], str], unless: Callable[..., str], not_dead: str) -> list[Button]:
    """Return the purge button, or the undo button of a purged dead letter."""
    if letter.status == DeadLetterStatus.PURGED:
        why = "" if letter.erase_at else "The payload has been erased."
        return [Button("Undo purge", "undo", here("undo-purge/"), unless("purge", why))]
    return [Button("Purge", "delete", here("purge/"), unless("purge", not_dead))]


def _no_replay(letter: DeadLetter) -> str:
    if letter.source == N8N and not n8n_client.is_configured():
        return "n8n reported this failure, so only n8n can retry it. Set N8N_API_KEY."
    return "n8n reported no execution to retry." if letter.source == N8N and not letter.execution_id else ""


def cannot_edit(letter: DeadLetter) -> str:
    """Return why a dead letter's payload cannot be edited here; an empty string if it can."""
    if letter.source == N8N:
        return "n8n reported this failure; there is no webhook payload to edit."
    size = letter.size  # type: ignore[attr-defined]  # of `detail.find`
    return "The payload is too long to edit here. Send an edited payload through the API." if size > EDIT_LIMIT else ""


def _no_retry(letter: DeadLetter) -> str:
    if not letter.execution_id:
        return "n8n reported no execution to retry."
    return "" if n8n_client.is_configured() else "Set N8N_API_KEY so that Backstop can call n8n's API."


def _curl(account: DeadLetterDetail) -> Button:
    letter = account.letter
    if letter.source == N8N:
        return Button("Copy as curl", "terminal", why="n8n reported this failure; Backstop sent no request.")
    if not account.payload.size:
        gone = "is in the archive" if letter.archive_id else "has been erased"
        return Button("Copy as curl", "terminal", why=f"The payload {gone}.")
    text = account.payload.begin if account.payload.size <= curl.INLINE else None
    last = account.replays[0].delivery if account.replays else letter.delivery
    if account.replays and account.replays[0].is_edited:
        last = letter.delivery
    return Button("Copy as curl", "terminal", copies=curl.command(letter=letter, last=last, payload=text))


def payload(screen: ActionScreen, request: HttpRequest, pk: UUID) -> HttpResponse:
    """Return the full payload, byte for byte as the sender wrote it."""
    may_view(screen, request)
    text = DeadLetter.objects.filter(pk=pk).values_list("payload", flat=True).first()
    return _plain(text, f"{pk}.json")


def body(screen: ActionScreen, request: HttpRequest, pk: UUID, attempt_id: int) -> HttpResponse:
    """Return the stored response body of an attempt in full."""
    may_view(screen, request)
    found = Attempt.objects.filter(pk=attempt_id, delivery_id__in=_deliveries(pk))
    return _plain(found.values_list("response_body", flat=True).first(), f"attempt-{attempt_id}.txt")


def _deliveries(pk: UUID) -> list[UUID]:
    own = DeadLetter.objects.filter(pk=pk).values_list("delivery_id", flat=True)
    return [one for one in [*own, *Delivery.objects.filter(dead_letter_id=pk).values_list("pk", flat=True)] if one]


def _plain(text: str | None, name: str) -> HttpResponse:
    """Return text from outside as plain text that no browser renders as HTML."""
    if text is None:
        raise Http404("This text does not exist.")
    response = HttpResponse(text, content_type="text/plain; charset=utf-8")
    response["X-Content-Type-Options"] = "nosniff"
    response["Content-Security-Policy"] = "sandbox; default-src 'none'"
    response["Content-Disposition"] = f'inline; filename="{name}"'
    return response


def changes(screen: ActionScreen, request: HttpRequest, pk: UUID, delivery_id: UUID) -> HttpResponse:
    """Show the differences between the dead letter's payload and the one that an edited replay sent."""
    may_view(screen, request)
    before = DeadLetter.objects.filter(pk=pk).values_list("payload", flat=True).first()
    after = Delivery.objects.filter(pk=delivery_id, dead_letter_id=pk).values_list("payload", flat=True).first()
    if before is None or after is None:
        raise Http404("This replay does not exist.")
    values = {
        **screen.admin_site.each_context(request),
        "opts": screen.opts,
        "title": "Changes in the edited payload",
        "lines": difference(before, after),
        "back": reverse("admin:reliability_deadletter_change", args=[pk]),
    }
    return TemplateResponse(request, "admin/reliability/deadletter/changes.html", values)


def difference(before: str, after: str) -> list[Line]:
    """Return the diff of two payloads, laid out with one member per line; only a note if they are too long."""
    if max(len(before), len(after)) > 2 * EDIT_LIMIT:
        return [Line("hunk", "Too long to compare here.")]
    return lines_of(before=readable(before), after=readable(after))


def readable(payload: str) -> str:
    """Return a payload laid out for people; it stays the same JSON."""
    return json_text.visible(json_text.indent(payload))
