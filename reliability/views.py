"""Health checks, and the error pages of requests that reach no view."""

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

# A write needs a session that accepts writes, and the table lock of an INSERT. Both are checked without writing. The
# lock conflicts with those of a migration that changes the table, so that readiness shows what intake would meet.
TAKES_WRITES = "SELECT current_setting('transaction_read_only') = 'off'"
LOCK = f"LOCK TABLE {Delivery._meta.db_table} IN ROW EXCLUSIVE MODE"
# lock_not_available and query_canceled: the database answers, but the table is locked.
LOCKED = ("55P03", "57014")


def healthz(request: HttpRequest) -> HttpResponse:
    """Answer that the process is alive. This uses nothing that could fail or block."""
    return JsonResponse({"ok": True})


def readyz(request: HttpRequest) -> HttpResponse:
    """Answer whether intake would accept: the database answers in time, has all migrations, and accepts writes."""
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
        checks["database"] = True  # the table of migrations does not exist yet
    except Error as error:
        checks["database"] = code_of(error) in LOCKED
    if not checks["writes"] and not connection.in_atomic_block:
        # A session on a standby never accepts writes. A new connection may lead to the new primary.
        connection.close()
    ok = all(checks.values())
    return JsonResponse({"ok": ok, **checks}, status=200 if ok else 503)


@cache
def migrations() -> frozenset[tuple[str, str]]:
    """Return the application and name of every migration on disk. Importing them would keep megabytes in memory."""
    return frozenset(
        (config.label, module.name)
        for config in apps.get_app_configs()
        for module in iter_modules([str(Path(config.path) / "migrations")])
        if not module.ispkg and module.name[0] not in "_~"
    )


def home(request: HttpRequest) -> HttpResponse:
    """Redirect to the console."""
    return HttpResponseRedirect(reverse("admin:index"))


def nowhere(request: HttpRequest, rest: str) -> HttpResponse:
    """Answer 404 in place of Django's redirect from an object to its public page: there are no public pages."""
    raise Http404


def favicon(request: HttpRequest) -> HttpResponse:
    """Redirect to the icon: browsers request it by a fixed name."""
    return HttpResponseRedirect(staticfiles_storage.url("reliability/icon.svg"))


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return _error(request, HTTPStatus.BAD_REQUEST, defaults.bad_request, exception)


def forbidden(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return _error(request, HTTPStatus.FORBIDDEN, defaults.permission_denied, exception)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Answer a request that failed CSRF protection: with a page in the console, else with problem+json."""
    if request.path.startswith("/admin"):
        text = "This page has expired, for example after a sign-in in another tab. Go back, reload it, and try again."
        return render(request, "403.html", {"exception": text}, status=HTTPStatus.FORBIDDEN)
    return problem(status=HTTPStatus.FORBIDDEN)


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return _error(request, HTTPStatus.NOT_FOUND, defaults.page_not_found, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer an unhandled exception; with 503 and `Retry-After` if the database was unavailable."""
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
    """Return a page for the console, and problem+json for all others."""
    if request.path.startswith("/admin"):
        response: HttpResponse = page(request, exception)
        return response
    return problem(status=status)
