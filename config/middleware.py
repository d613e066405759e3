"""Hosts that are not ours; the fork between pages and the API, whose requests bring a key; the end of idle sessions."""

import logging
import time
from collections.abc import Callable

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponseBase
from django.utils.deprecation import MiddlewareMixin

HEALTH = frozenset({"/healthz", "/readyz"})
API = "/api/v1/"
CONSOLE = "/admin/"
POLL = "X-Backstop-Poll"  # by which a page that looks for news says that nobody asked it to
SEEN_EVERY = 60

logger = logging.getLogger(__name__)

Handler = Callable[[HttpRequest], HttpResponseBase]


class HostMiddleware:
    """Refuses requests by a name that is not in `ALLOWED_HOSTS`, with one short line in the log.

    Django itself logs an error with a traceback for each, and anybody can send them. Probes ask by an address: health
    checks are answered whatever the name, for nothing in their answers depends on it.
    """

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.path_info in HEALTH:
            request.get_host = lambda: "localhost"  # type: ignore[method-assign]  # what follows asks for it
            return self.get_response(request)
        try:
            request.get_host()
        except DisallowedHost:
            return _refused_host(request)
        return self.get_response(request)


def _refused_host(request: HttpRequest) -> HttpResponseBase:
    from reliability import views  # they need the applications set up

    logger.info("host_refused", extra={"host": str(request.META.get("HTTP_HOST", ""))[:100], "path": request.path})
    response = views.bad_request(request)
    response._has_been_logged = True  # type: ignore[attr-defined]  # by the line above
    return response


class PagesOnly:
    """Leads the API's requests past all middleware that follows, straight to their views."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response
        self.view = _innermost(get_response)

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return (self.view if request.path_info.startswith(API) else self.get_response)(request)


def _innermost(handler: Handler) -> Handler:
    """Return what calls the view: each middleware holds the next one as its `get_response`."""
    while (following := getattr(handler, "get_response", None)) is not None:
        handler = following
    return handler


class SessionEndMiddleware(MiddlewareMixin):
    """Ends a console session that nobody has used for a while, or that began too long ago.

    Each use would otherwise prolong a session for ever. Use is written down once a minute; a poll is none.
    """

    def process_request(self, request: HttpRequest) -> None:
        if not request.path_info.startswith(CONSOLE) or not request.COOKIES.get(settings.SESSION_COOKIE_NAME):
            return
        session, now = request.session, int(time.time())
        if "_auth_user_id" not in session:
            return
        since, seen = session.get("since", now), session.get("seen", now)
        idle = settings.SESSION_IDLE_SECONDS
        if now - since > settings.SESSION_COOKIE_AGE or (idle and now - seen > idle):
            session.flush()
        elif "since" not in session or (now - seen >= SEEN_EVERY and POLL not in request.headers):
            session["since"], session["seen"] = since, now
