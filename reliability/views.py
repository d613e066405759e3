"""Health, for whoever watches the process; and the errors of requests that reach no view."""

import sys
from functools import cache
from http import HTTPStatus
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from django.apps import apps
from django.contrib.staticfiles.storage import staticfiles_storage
from django.db import Error, ProgrammingError, connection, transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.views import defaults

from config.database.sqlstates import code_of, is_unavailable
from reliability.models import Delivery

from .api.common.problems import not_kept, problem

# What a write asks for: a session that takes writes, and the table's lock that an INSERT takes. Nothing is written.
TAKES_WRITES = "SELECT current_setting('transaction_read_only') = 'off'"
LOCK = f"LOCK TABLE {Delivery._meta.db_table} IN ROW EXCLUSIVE MODE"
# lock_not_available, query_canceled: the database answers, but the table is not free.
LOCKED = ("55P03", "57014")


def healthz(request: HttpRequest) -> HttpResponse:
    """Say that the process lives."""
    return JsonResponse({"ok": True})


def readyz(request: HttpRequest) -> HttpResponse:
    """Say whether intake would accept: the database answers in time, has every migration, and takes writes."""
    checks = {"database": False, "migrations": False, "writes": False}
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT app, name FROM django_migrations")
            checks["database"] = True
            checks["migrations"] = migrations() <= set(cursor.fetchall())
            cursor.execute(TAKES_WRITES)
            takes_writes = bool(cursor.fetchone()[0])
            cursor.execute(LOCK)
            checks["writes"] = takes_writes
    except ProgrammingError:
        checks["database"] = True  # no migration has been made yet
    except Error as error:
        checks["database"] = code_of(error) in LOCKED
    if not checks["writes"] and not connection.in_atomic_block:
        connection.close()  # a session that takes no writes never will: another one may
    ok = all(checks.values())
    return JsonResponse({"ok": ok, **checks}, status=200 if ok else 503)


@cache
def migrations() -> frozenset[tuple[str, str]]:
    """Return every migration on disk by application and name: to load them would keep megabytes for one look."""
    return frozenset(
        (config.label, module.name)
        for config in apps.get_app_configs()
        for module in iter_modules([str(Path(config.path) / "migrations")])
        if not module.ispkg and module.name[0] not in "_~"
    )


def home(request: HttpRequest) -> HttpResponse:
    """Lead to the console."""
    return HttpResponseRedirect(reverse("admin:index"))


def nowhere(request: HttpRequest, rest: str) -> HttpResponse:
    """Stand in for Django's way from an object to its page on a site: there is no such site."""
    raise Http404


def favicon(request: HttpRequest) -> HttpResponse:
    """Lead to the icon that browsers ask for by a fixed name."""
    return HttpResponseRedirect(staticfiles_storage.url("reliability/icon.svg"))


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return _error(request, HTTPStatus.BAD_REQUEST, defaults.bad_request, exception)


def forbidden(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return _error(request, HTTPStatus.FORBIDDEN, defaults.permission_denied, exception)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Answer a request that CSRF protection refused: the console's by a page, any other as a problem."""
    if request.path.startswith("/admin"):
        text = "The page was too old, as after a sign-in elsewhere, or not ours: go back, reload it, and try again."
        return render(request, "403.html", {"exception": text}, status=HTTPStatus.FORBIDDEN)
    return problem(status=HTTPStatus.FORBIDDEN)


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return _error(request, HTTPStatus.NOT_FOUND, defaults.page_not_found, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer what no view caught; where the database was away, by 503 and when to come again."""
    error = sys.exception()
    gone = not_kept(error=error, doing=request.path) if isinstance(error, Error) and is_unavailable(error) else None
    if request.path.startswith("/admin"):
        page = defaults.server_error(request)
        if gone is not None:
            page.status_code, page.headers["Retry-After"] = gone.status_code, gone.headers["Retry-After"]
        return page
    if gone is not None:
        return gone
    return problem(status=HTTPStatus.INTERNAL_SERVER_ERROR, detail="Something went wrong on our side.")


def _error(request: HttpRequest, status: HTTPStatus, page: Any, exception: Exception | None) -> HttpResponse:
    """The console gets a page, everybody else problem+json."""
    if request.path.startswith("/admin"):
        response: HttpResponse = page(request, exception)
        return response
    return problem(status=status)
