"""Django's middleware for pages, which the API's requests pass by: they bring a key, and no session."""

from django.contrib.auth import middleware as auth
from django.contrib.messages import middleware as messages
from django.contrib.sessions import middleware as sessions
from django.http import HttpRequest, HttpResponseBase
from django.utils.deprecation import MiddlewareMixin

API = "/api/v1/"


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
