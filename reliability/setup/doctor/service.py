"""Checks of Backstop itself: configuration, database, migrations, engine, workers, static files, mail, archive."""

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
from reliability.formats.counts import counted
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
    """Run Django's system checks and Backstop's; deployment checks only without the embedded database."""
    trial = settings.EMBEDDED_DATABASE
    found = [one for one in checks.run_checks(include_deployment_checks=not trial) if not one.is_silenced()]
    for one in found:
        make = failure if one.level >= checks.ERROR else warning
        yield make(f"{one.msg} ({one.id})", str(one.hint or ""))
    if trial:
        yield ok("Valid. The checks for production are skipped, since the embedded database is in use.")
    elif not found:
        yield ok("Valid. The checks for production pass too.")


def database() -> Iterator[Finding]:
    """Check that it answers, its version, its clock, its free connections, and long transactions."""
    try:
        connection.ensure_connection()
    except NotSupportedError as error:
        found, _, advice = str(error).partition(": ")
        yield failure(f"{found}.", advice or "Upgrade PostgreSQL.")
        return
    except Exception as error:  # the message comes from psycopg
        text = " ".join(str(error).split())[:300]
        yield failure(
            f"The database cannot be reached: {text}", "Check that PostgreSQL runs, and that DATABASE_URL is correct."
        )
        return
    version = connection.pg_version // 10_000  # type: ignore[attr-defined]  # PostgreSQL's
    yield ok(f"PostgreSQL {version} answers.")
    yield skew(clock.now() - datetime.now(UTC), "the database's")
    (left,) = _rows(CONNECTIONS)[0]
    if left < FEW_CONNECTIONS:
        yield warning(
            f"Only {counted(max(left, 0), 'connection')} left.",
            "Raise max_connections, put PgBouncer in front, or run fewer processes and threads (WEB_THREADS).",
        )
    else:
        yield ok(f"{counted(left, 'connection')} left.")
    for pid, name, state, age in _rows(LONG_TRANSACTIONS, [LONG]):
        yield warning(
            f"A transaction of '{name}' (process {pid}, {state}) has been open for {_age(age)}.",
            f"VACUUM cannot remove deleted rows meanwhile. End it: SELECT pg_terminate_backend({pid}).",
        )


def migrations() -> Iterator[Finding]:
    if earlier := older_database.found():
        yield failure(earlier, older_database.advice())
        return
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if missing:
        names = ", ".join(f"{one.app_label}.{one.name}" for one, _ in missing[:5])
        yield failure(f"{counted(len(missing), 'migration')} not applied: {names}.", "Run ./manage.py migrate.")
    else:
        yield ok("Every migration is applied.")


def the_engine() -> Iterator[Finding]:
    """Check its tables, jobs of dead workers, failed jobs, and that notifications arrive."""
    condition = queue.engine_status()
    if condition.stalled:
        yield warning(
            f"{counted(condition.stalled, 'job')} of workers that died.",
            "A running worker replaces them within a minute. Check the log for why the workers died.",
        )
    if condition.failed:
        yield warning(
            f"{counted(condition.failed, 'job')} failed.", "Check the workers' logs. Clean-up removes failed jobs."
        )
    if not condition.stalled and not condition.failed:
        yield ok(f"{counted(condition.due, 'job')} due, none failed.")
    if _receives_notifications():
        yield ok("Notifications arrive (LISTEN and NOTIFY).")
    else:
        yield failure(
            "A notification did not arrive, so workers find work only by polling.",
            "Connect workers directly, or through PgBouncer in session mode: its transaction mode has no LISTEN.",
        )


def _receives_notifications() -> bool:
    """Whether one connection receives the notification of another."""
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
        yield ok(f"{counted(alive, 'worker')} running.")
    else:
        yield failure("No worker is running, so nothing is delivered.", "Start one: ./manage.py worker.")


def requests() -> Iterator[Finding]:
    """Check that no invalid value in Backstop prevents a workflow's requests."""
    found = [one for one in Workflow.objects.order_by("slug") if one.local_fault and not one.is_demo]
    for one in found:
        yield failure(
            f"No request can be sent to the workflow '{one.slug}': {one.local_fault}",
            "Correct the value in the console, with the API, or with ./manage.py workflow_secret or import_workflows.",
        )
    held = Lane.objects.exclude(fault="").exclude(workflow__in=found).select_related("workflow").order_by("pk")[:5]
    for lane in held:
        text = f"The last request to '{lane}' could not be sent: {lane.fault}"
        yield warning(text, "Correct the setting in the message, and restart the workers.")
    if not found and not held:
        yield ok("Every workflow has valid headers and secrets.")


def static_files() -> Iterator[Finding]:
    """Check that the console's static files are collected, and current."""
    if not isinstance(staticfiles_storage, ManifestStaticFilesStorage):
        yield skipped("Static files are served without being collected.")
        return
    kept, source = staticfiles_storage.hashed_files.get(SAMPLE), finders.find(SAMPLE)
    if kept is None or not staticfiles_storage.exists(kept):
        yield failure("Static files are not collected, so the console has no styles.", "Run ./manage.py collectstatic.")
    elif isinstance(source, str) and Path(source).stat().st_mtime > _collected_at(kept):
        yield warning(
            "The collected static files are outdated.", "Run ./manage.py collectstatic, then restart the web server."
        )
    else:
        yield ok("Static files are collected.")


def _collected_at(name: str) -> float:
    return Path(staticfiles_storage.path(name)).stat().st_mtime


def the_mail() -> Iterator[Finding]:
    """Check that the mail server accepts the login; sends nothing."""
    if not settings.is_overridden("EMAIL_HOST"):  # type: ignore[misc]  # its types do not know it
        yield skipped("No mail server is configured.")
        return
    server = mail.get_connection(timeout=4)
    try:
        server.open()
    except OSError as error:
        yield failure(
            f"The mail server {settings.EMAIL_HOST} refuses: {error}", "Check EMAIL_URL, and that the server runs."
        )
        return
    server.close()
    yield ok(f"The mail server {settings.EMAIL_HOST} accepts the login.")


def the_archive() -> Iterator[Finding]:
    """Check that the storage is writable and has space, and that expired dead letters are archived."""
    storage = archive_store.storage()
    if isinstance(storage, FileSystemStorage):
        yield _folder(Path(storage.location))
    else:
        archive_store.names()
        yield ok("The archive storage answers.")
    given_up = Archive.objects.filter(state=ArchiveState.ABANDONED).count()
    if given_up:
        yield warning(
            f"{counted(given_up, 'incomplete archive')} could not be removed.",
            "Run ./manage.py cleanup --only archive.",
        )
    late = archive.count_expired(now=clock.now() - timedelta(days=1), limit=1000)
    if late:
        number = "1,000 or more dead letters" if late == 1000 else counted(late, "dead letter")
        yield warning(
            f"{number} expired more than a day ago without being archived.",
            "Run clean-up: ping the cron job 'cleanup', or run ./manage.py cleanup.",
        )


def _folder(place: Path) -> Finding:
    there = next(one for one in (place, *place.parents) if one.exists())
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"x")
            file.flush()
    except OSError as error:
        return failure(f"{there} is not writable: {error.strerror}.", "Check the owner of the folder, and the disk.")
    free = shutil.disk_usage(there).free
    text = f"{free / 1024**3:.1f} GiB free for archives."
    advice = "Free disk space, or set ARCHIVE_DIRECTORY to another disk."
    if free < TOO_LITTLE:
        return failure(text, advice)
    return warning(text, advice) if free < LITTLE else ok(text)


def time_zones() -> Iterator[Finding]:
    """Check that time zones are installed, which cron jobs need."""
    try:
        zoneinfo.ZoneInfo("America/New_York")
    except zoneinfo.ZoneInfoNotFoundError:
        yield failure("Time zones are not installed.", "Install the system package tzdata.")
    else:
        yield ok("Time zones are installed.")


def skew(difference: timedelta, whose: str) -> Finding:
    seconds = difference.total_seconds()
    if abs(seconds) <= SKEW_SECONDS:
        return ok(f"This machine's clock and {whose} agree.")
    side = "behind" if seconds > 0 else "ahead of"
    return warning(f"This machine's clock is {abs(seconds):.0f} s {side} {whose}.", "Run NTP on both machines.")


def _age(age: timedelta) -> str:
    return counted(round(age.total_seconds() / 60), "minute")


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
