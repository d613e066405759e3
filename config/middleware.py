"""Django's middleware for pages, which the API's requests pass by: they bring a key, and no session."""

import time

from csp.middleware import CSPMiddleware
from django.conf import settings
from django.contrib.auth import middleware as auth
from django.contrib.messages import middleware as messages
from django.contrib.sessions import middleware as sessions
from django.http import HttpRequest, HttpResponseBase
from django.utils.deprecation import MiddlewareMixin

API = "/api/v1/"
CONSOLE = "/admin/"
POLL = "X-Backstop-Poll"  # by which a page that looks for news says that nobody asked it to
SEEN_EVERY = 60


class PagesOnly(MiddlewareMixin):
    """Steps aside for the API."""

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.path_info.startswith(API):
            return self.get_response(request)  # type: ignore[return-value]  # as above
        return super().__call__(request)  # type: ignore[return-value]  # as above


class SessionMiddleware(PagesOnly, sessions.SessionMiddleware):
    """Sessions, for pages."""


class AuthenticationMiddleware(PagesOnly, auth.AuthenticationMiddleware):
    """Signed-in users, for pages."""


class MessageMiddleware(PagesOnly, messages.MessageMiddleware):
    """Messages, for pages."""


class ContentSecurityPolicyMiddleware(PagesOnly, CSPMiddleware):
    """What a page may load and run, for pages."""


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
