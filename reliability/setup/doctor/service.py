"""What is our own: configuration, database, migrations, engine, workers, static files, mail, the archive's storage."""

import shutil
import tempfile
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.staticfiles import finders
from django.contrib.staticfiles.storage import ManifestStaticFilesStorage, staticfiles_storage
from django.core import checks, mail
from django.core.files.storage import FileSystemStorage
from django.db import NotSupportedError, connection
from django.db.migrations.executor import MigrationExecutor

from reliability import queue
from reliability.core import clock
from reliability.dead_letters import archive, archive_store
from reliability.models import Archive, ArchiveState, Lane, Workflow
from reliability.setup import older_database

from .findings import Check, Finding, failure, ok, skipped, warning

DATABASE, MIGRATIONS = "database", "migrations"
SKEW_SECONDS = 5
LONG = timedelta(minutes=10)
FEW_CONNECTIONS = 10
LITTLE, TOO_LITTLE = 1024**3, 100 * 1024**2
SAMPLE = "reliability/console.css"
CHANNEL = "backstop_doctor"

CONNECTIONS = """
SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
    - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')
"""
LONG_TRANSACTIONS = """
SELECT pid, coalesce(nullif(application_name, ''), usename, ''), state, clock_timestamp() - xact_start
FROM pg_stat_activity WHERE datname = current_database() AND xact_start < clock_timestamp() - %s
    AND backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY xact_start LIMIT 3
"""


def configuration() -> Iterator[Finding]:
    """Django's system checks and our own; those for deployment only where it is no trial."""
    trial = settings.EMBEDDED_DATABASE
    found = [one for one in checks.run_checks(include_deployment_checks=not trial) if not one.is_silenced()]
    for one in found:
        make = failure if one.level >= checks.ERROR else warning
        yield make(f"{one.msg} ({one.id})", str(one.hint or ""))
    if trial:
        yield ok("For a trial, with the embedded database: what only matters in production was not looked at.")
    elif not found:
        yield ok("All of Django's checks and our own pass, those for deployment too.")


def database() -> Iterator[Finding]:
    """Whether it answers, its version, its clock against ours, connections left, long transactions."""
    try:
        connection.ensure_connection()
    except NotSupportedError as error:
        found, _, advice = str(error).partition(": ")
        yield failure(f"{found}.", advice or "Upgrade PostgreSQL.")
        return
    except Exception as error:  # as psycopg says it
        text = " ".join(str(error).split())[:300]
        yield failure(f"It cannot be reached: {text}", "See that PostgreSQL runs, and that DATABASE_URL is right.")
        return
    version = connection.pg_version // 10_000  # type: ignore[attr-defined]  # PostgreSQL's
    yield ok(f"PostgreSQL {version} answers.")
    yield skew(clock.now() - datetime.now(UTC), "the database's")
    (left,) = _rows(CONNECTIONS)[0]
    if left < FEW_CONNECTIONS:
        yield warning(
            f"Only {max(left, 0)} connections are left.",
            "Raise max_connections, put PgBouncer in front, or run fewer processes and threads (WEB_THREADS).",
        )
    else:
        yield ok(f"{left} connections are left.")
    for pid, name, state, age in _rows(LONG_TRANSACTIONS, [LONG]):
        yield warning(
            f"A transaction of '{name}' (process {pid}, {state}) has been open for {_age(age)}.",
            f"It keeps deleted rows from being cleared. End it: SELECT pg_terminate_backend({pid}).",
        )


def migrations() -> Iterator[Finding]:
    if earlier := older_database.found():
        yield failure(earlier, older_database.advice())
        return
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if missing:
        names = ", ".join(f"{one.app_label}.{one.name}" for one, _ in missing[:5])
        yield failure(f"{len(missing)} are missing: {names}.", "Run manage.py migrate.")
    else:
        yield ok("All are applied.")


def the_engine() -> Iterator[Finding]:
    """Its tables, jobs whose worker is gone, jobs that failed, and whether notifications arrive."""
    condition = queue.engine_status()
    if condition.stalled:
        yield warning(
            f"{condition.stalled} jobs are in the hands of workers that are gone.",
            "A worker takes them away within a minute, and wakes what they were about; see why workers died.",
        )
    if condition.failed:
        yield warning(f"{condition.failed} jobs have failed.", "See the workers' logs; clean-up takes them away.")
    if not condition.stalled and not condition.failed:
        yield ok(f"{condition.due} jobs are due, none has failed.")
    if _hears():
        yield ok("Notifications arrive (LISTEN).")
    else:
        yield failure(
            "A notification did not arrive: workers find work by polling only.",
            "Give workers a connection of their own: PgBouncer in transaction mode does not carry LISTEN.",
        )


def _hears() -> bool:
    """Whether one connection hears what another says."""
    own = connection.copy()
    try:
        with own.cursor() as cursor:
            cursor.execute(f"LISTEN {CHANNEL}")
        with connection.cursor() as cursor:
            cursor.execute(f"NOTIFY {CHANNEL}")
        raw: Any = own.connection
        return any(True for _ in raw.notifies(timeout=2.0, stop_after=1))
    finally:
        own.close()


def workers() -> Iterator[Finding]:
    alive = queue.workers_alive()
    if alive:
        yield ok(f"{alive} alive.")
    else:
        yield failure("None is alive: nothing is delivered.", "Start one: manage.py worker.")


def requests() -> Iterator[Finding]:
    """Whether anything of ours keeps workflows' requests from being sent."""
    found = [one for one in Workflow.objects.order_by("slug") if one.local_fault and not one.is_demo]
    for one in found:
        yield failure(
            f"Nothing can be sent to '{one.slug}': {one.local_fault}",
            "Correct the value: in the console, by the API, or by manage.py workflow_secret or import_workflows.",
        )
    held = Lane.objects.exclude(fault="").exclude(workflow__in=found).select_related("workflow").order_by("pk")[:5]
    for lane in held:
        text = f"The last request to '{lane}' could not be sent: {lane.fault}"
        yield warning(text, "Correct the setting that it names, and restart the workers.")
    if not found and not held:
        yield ok("Every workflow's headers and secrets can be sent.")


def static_files() -> Iterator[Finding]:
    """Whether the console's files are collected, and are those of this version."""
    if not isinstance(staticfiles_storage, ManifestStaticFilesStorage):
        yield skipped("They are served as they are.")
        return
    kept, source = staticfiles_storage.hashed_files.get(SAMPLE), finders.find(SAMPLE)
    if kept is None or not staticfiles_storage.exists(kept):
        yield failure("They are not collected: the console has no styles.", "Run manage.py collectstatic.")
    elif isinstance(source, str) and Path(source).stat().st_mtime > _collected_at(kept):
        yield warning("They are older than this version's.", "Run manage.py collectstatic, then restart the web.")
    else:
        yield ok("They are collected.")


def _collected_at(name: str) -> float:
    return Path(staticfiles_storage.path(name)).stat().st_mtime


def the_mail() -> Iterator[Finding]:
    """Whether the mail server lets us in; nothing is sent."""
    if not settings.is_overridden("EMAIL_HOST"):  # type: ignore[misc]  # its types do not know it
        yield skipped("No mail server is set.")
        return
    server = mail.get_connection(timeout=4)
    try:
        server.open()
    except OSError as error:
        yield failure(f"{settings.EMAIL_HOST} does not take mail: {error}", "See EMAIL_URL, and that the server is up.")
        return
    server.close()
    yield ok(f"{settings.EMAIL_HOST} lets us in.")


def the_archive() -> Iterator[Finding]:
    """Whether its storage takes files, has room, and whether dead letters get there."""
    storage = archive_store.storage()
    if isinstance(storage, FileSystemStorage):
        yield _folder(Path(storage.location))
    else:
        archive_store.names()
        yield ok("The storage answers.")
    given_up = Archive.objects.filter(state=ArchiveState.ABANDONED).count()
    if given_up:
        yield warning(f"{given_up} half-made archives could not be removed.", "Run manage.py cleanup --only archive.")
    late = archive.count_expired(now=clock.now() - timedelta(days=1), limit=1000)
    if late:
        number = "1,000 or more" if late == 1000 else late
        yield warning(
            f"{number} dead letters have been past their time for more than a day.",
            "Have clean-up run: ping the cron job 'cleanup', or call manage.py cleanup.",
        )


def _folder(place: Path) -> Finding:
    there = next(one for one in (place, *place.parents) if one.exists())
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"x")
            file.flush()
    except OSError as error:
        return failure(f"{there} cannot be written to: {error.strerror}.", "See whose folder it is, and its disk.")
    free = shutil.disk_usage(there).free
    text = f"{free / 1024**3:.1f} GB are left for it."
    advice = "Make room, or set ARCHIVE_DIRECTORY to where there is."
    if free < TOO_LITTLE:
        return failure(text, advice)
    return warning(text, advice) if free < LITTLE else ok(text)


def time_zones() -> Iterator[Finding]:
    """Whether time zones are known, as cron jobs need them."""
    try:
        zoneinfo.ZoneInfo("America/New_York")
    except zoneinfo.ZoneInfoNotFoundError:
        yield failure("Time zones are not known here.", "Install the system's tzdata.")
    else:
        yield ok("Time zones are known.")


def skew(difference: timedelta, whose: str) -> Finding:
    seconds = difference.total_seconds()
    if abs(seconds) <= SKEW_SECONDS:
        return ok(f"This machine's clock and {whose} agree.")
    side = "behind" if seconds > 0 else "ahead of"
    return warning(f"This machine's clock is {abs(seconds):.0f} s {side} {whose}.", "Run NTP on both machines.")


def _age(age: timedelta) -> str:
    return f"{age.total_seconds() / 60:.0f} minutes"


def _rows(statement: str, values: "list[Any] | None" = None) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        found: list[tuple[Any, ...]] = cursor.fetchall()
    return found


CHECKS = (
    Check("configuration", configuration, needs_database=False),
    Check(DATABASE, database, needs_database=False),
    Check(MIGRATIONS, migrations),
    Check("engine", the_engine),
    Check("workers", workers),
    Check("requests", requests),
    Check("static files", static_files, needs_database=False),
    Check("time zones", time_zones, needs_database=False),
    Check("archive", the_archive),
    Check("mail", the_mail, needs_database=False),
)
