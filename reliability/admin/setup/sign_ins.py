"""Failed sign-ins: the list, the lock-out, and the page that a locked-out user sees."""

from collections.abc import Mapping
from ipaddress import IPv4Address, ip_address, ip_network
from typing import Any

from axes.helpers import get_cool_off
from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from reliability.admin.common.base import ReadOnly
from reliability.admin.common.confirm import ActionScreen, Verb
from reliability.api.common.addresses import address_of
from reliability.models import FailedSignIn
from reliability.setup import sign_ins

NAME_KEPT = 255
IPV6_PREFIX = 64  # bits: a provider usually gives each subscriber a /64
UNLOCK = Verb("unlock", "Unlock", "unlocked", sign_ins.unlock, "attempt_id")


@admin.register(FailedSignIn)
class FailedSignInAdmin(ReadOnly, ActionScreen):
    empty_text = "No sign-in has failed recently."
    verbs = (UNLOCK,)
    list_display = ("username", "ip_address", "failures_since_start", "is_locked", "attempt_time", "user_agent")
    search_fields = ("username", "ip_address")
    fields = ("username", "ip_address", "failures_since_start", "is_locked", "attempt_time", "user_agent", "path_info")
    readonly_fields = ("is_locked",)

    def key_of(self, text: str) -> Any:
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None

    @admin.display(description="locked out", boolean=True)
    def is_locked(self, attempt: FailedSignIn) -> bool:
        return bool(attempt.failures_since_start >= settings.AXES_FAILURE_LIMIT)


def address(request: HttpRequest) -> str | None:
    """Return the address by which failures are counted: the client as our own proxies saw it.

    For IPv6 it is the /64 network, because a subscriber can use any address in it.
    """
    try:
        found = ip_address(address_of(request.META))
    except ValueError:
        return None
    if isinstance(found, IPv4Address):
        return str(found)
    return str(found.ipv4_mapped or ip_network((found.packed, IPV6_PREFIX), strict=False).network_address)


def name_of(request: HttpRequest, credentials: Mapping[str, Any] | None) -> str:
    """Return the user name by which failures are counted, cut to the column's length; no user has a longer one."""
    given = credentials.get("username") if credentials else request.POST.get("username")
    return str(given or "")[:NAME_KEPT]


def locked_out(request: HttpRequest, response: HttpResponse, credentials: Any) -> HttpResponse:
    """Show that too many sign-ins failed, for how long the lock holds, and who can unlock it."""
    wait = get_cool_off(request)
    minutes = int(wait.total_seconds() // 60) if wait else 0
    context = {**admin.site.each_context(request), "title": "Locked out", "minutes": minutes}
    shown = render(request, "admin/reliability/locked_out.html", context, status=429)
    shown["Retry-After"] = str(minutes * 60)
    return shown
