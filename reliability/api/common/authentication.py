"""API keys: authentication, scopes, and the tenant that a key is limited to."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import Q
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed, MethodNotAllowed
from rest_framework.permissions import BasePermission

from reliability.core.audit import Actor
from reliability.errors import Forbidden
from reliability.models import DEFAULT_TENANT, ApiKey
from reliability.models.access import PREFIX_LENGTH
from reliability.models.rows import Columns

# `last_used_at` is written at most this often, so that a busy key is not updated with every request.
NOTE_EVERY = timedelta(minutes=1)
KEY_LENGTH_LIMIT = 200
COLUMNS = Columns(ApiKey, "k")


@dataclass(frozen=True, slots=True)
class Caller:
    """The API key of a request, and the time (by the database's clock) at which it was read."""

    key: ApiKey
    now: datetime
    is_authenticated: bool = True

    def actor(self, reason: str = "") -> Actor:
        return Actor(name=f"key:{self.key.name}", reason=reason)

    def tenant_for(self, wanted: str | None) -> str:
        """Return the tenant of a request. Raises `Forbidden` if the key is limited to another tenant."""
        own = self.key.tenant
        if own and wanted and wanted != own:
            raise Forbidden(f"This API key is limited to the tenant '{own}'.")
        return wanted or own or DEFAULT_TENANT

    def own(self, field: str) -> Q:
        """Return the condition that limits rows to the key's tenant; `field` is the lookup path of the tenant."""
        return Q(**{field: self.key.tenant}) if self.key.tenant else Q()


class KeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer <key>` or `X-API-Key: <key>`. One query, which also reads the clock."""

    def authenticate(self, request: Any) -> tuple[Caller, Caller]:
        plain = shown(request.META)
        if not may_be_key(plain):
            raise AuthenticationFailed("No API key. Send 'Authorization: Bearer <key>' or 'X-API-Key: <key>'.")
        row = _find(plain[:PREFIX_LENGTH])
        if row is None or not row[0].matches(plain):
            raise AuthenticationFailed("Unknown API key.")
        found, now = row
        if found.revoked_at is not None or (found.expires_at is not None and found.expires_at <= now):
            raise AuthenticationFailed("This API key has expired or was revoked.")
        if not getattr(request.parser_context.get("view"), "notes_use", False):
            _note_use(found, now)
        caller = Caller(found, now)
        return caller, caller

    def authenticate_header(self, request: Any) -> str:
        return 'Bearer realm="backstop"'


TABLE = ApiKey._meta.db_table
FIND = f"SELECT clock_timestamp(), {COLUMNS.sql} FROM {TABLE} k WHERE prefix = %s"  # noqa: S608  # our own names


def _find(prefix: str) -> tuple[ApiKey, datetime] | None:
    """Read the key and the clock in one query. Plain SQL: every request runs it."""
    with connection.cursor() as cursor:
        cursor.execute(FIND, [prefix])
        row = cursor.fetchone()
    return (COLUMNS.instance(row[1:]), row[0]) if row else None


def shown(meta: dict[str, str]) -> str:
    """Return the key in the headers of a request, or an empty string."""
    scheme, _, token = meta.get("HTTP_AUTHORIZATION", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else meta.get("HTTP_X_API_KEY", "").strip()


def may_be_key(plain: str) -> bool:
    """Whether a text can be a key. Others are not looked up: PostgreSQL rejects some of them, such as a NUL."""
    return 0 < len(plain) <= KEY_LENGTH_LIMIT and plain.isascii() and plain.isprintable()


def _note_use(key: ApiKey, now: datetime) -> None:
    if key.last_used_at is None or now - key.last_used_at > NOTE_EVERY or key.last_used_at > now:
        ApiKey.objects.filter(pk=key.pk).update(last_used_at=now)


class HasScope(BasePermission):
    """Checks that the key has the scope that the view names for the method. A method without a scope is a 405."""

    def has_permission(self, request: Any, view: Any) -> bool:
        scope = view.scopes.get("GET" if request.method == "HEAD" else request.method)
        if scope is None:
            raise MethodNotAllowed(request.method)
        if not request.auth.key.allows(scope):
            raise Forbidden(f"This API key does not have the scope '{scope}'.")
        return True
