"""Typed readers of the environment.

A value that cannot be read or makes no sense is noted in `problems` under its variable's name, and the default
stands in for it; a system check then stops the start with all of them at once.
"""

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.validators import validate_email

problems: list[tuple[str, str]] = []
_env = environ.Env()


def read_file(path: Path) -> None:
    """Take variables from a file of `NAME=value` lines; those of the process itself win."""
    if path.is_file():
        environ.Env.read_env(path)


def problem(name: str, message: str) -> None:
    """Note that the variable `name` makes no sense."""
    problems.append((name, message))


def text(name: str, default: str = "") -> str:
    return str(_env.str(name, default=default)).strip()


def boolean(name: str, *, default: bool) -> bool:
    value = text(name).lower()
    if value in ("", "true", "1", "yes", "on"):
        return bool(value) or default
    if value not in ("false", "0", "no", "off"):
        problem(name, f"'{value}' is neither true nor false.")
        return default
    return False


def integer(name: str, default: int, *, low: int, high: int) -> int:
    """Read a whole number within [low, high]."""
    return int(_number(name, default, low, high, int))


def decimal(name: str, default: float, *, low: float, high: float) -> float:
    """Read a number within [low, high]."""
    return float(_number(name, default, low, high, float))


def _number(name: str, default: float, low: float, high: float, kind: type) -> float:
    value = text(name)
    if not value:
        return default
    try:
        number: float = kind(value)
    except ValueError:
        problem(name, f"'{value}' is not a {'whole ' if kind is int else ''}number.")
        return default
    if not low <= number <= high:  # not-a-number is in no range either
        problem(name, f"{value} is outside {low} to {high}.")
        return default
    return number


def words(name: str, default: list[str]) -> list[str]:
    """Read a comma-separated list."""
    return [word.strip() for word in text(name).split(",") if word.strip()] or default


def mapping(name: str) -> dict[str, Any]:
    """Read a JSON object; an empty one where there is none."""
    try:
        value = json.loads(text(name) or "{}")
    except ValueError:
        value = None
    if not isinstance(value, dict):
        problem(name, "Not a JSON object.")
        return {}
    return value


def choice(name: str, default: str, *, among: tuple[str, ...]) -> str:
    """Read one of a few words, whatever their case."""
    value = text(name)
    found = {word.casefold(): word for word in among}
    if value and value.casefold() not in found:
        problem(name, f"'{value}' is none of {', '.join(among)}.")
    return found.get(value.casefold(), default)


def traces() -> str:
    """Return where OpenTelemetry's own variables send traces, `otlp` or `console`; empty where they ask for none."""
    if boolean("OTEL_SDK_DISABLED", default=False):
        return ""
    places = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    default = "otlp" if any(map(text, places)) else "none"
    chosen = choice("OTEL_TRACES_EXPORTER", default, among=("otlp", "console", "none"))
    if chosen == "otlp" and text("OTEL_EXPORTER_OTLP_PROTOCOL") not in ("", "http/protobuf"):
        problem("OTEL_EXPORTER_OTLP_PROTOCOL", "Traces are sent by http/protobuf only.")
    return "" if chosen == "none" else chosen


def url(name: str, default: str = "", *, secret: bool = False) -> str:
    """Read an http or https address, without a slash at its end; one that is `secret` is not repeated."""
    value = text(name) or default
    try:
        parts = urlsplit(value)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        sound = False
    if value and not sound:
        problem(name, f"{'It' if secret else repr(value)} is not an http or https address.")
        return default.rstrip("/")
    return value.rstrip("/")


def slug(name: str, pattern: str) -> str:
    """Read a slug of that pattern, or nothing."""
    value = text(name)
    if value and not re.fullmatch(pattern, value):
        problem(name, f"'{value}' is no slug: 1 to 63 of a-z, 0-9 and '-', not beginning with '-'.")
        return ""
    return value


def addresses(name: str) -> list[str]:
    """Read a comma-separated list of mail addresses."""
    found = words(name, [])
    for one in found:
        try:
            validate_email(one)
        except ValidationError:
            problem(name, f"'{one}' is not a mail address.")
            return []
    return found


def mail(name: str) -> dict[str, object]:
    """Read a mail server's address as Django's `EMAIL_…` settings; none where there is none."""
    value = text(name)
    if not value:
        return {}
    try:
        found = {key: part for key, part in _env.email_url_config(value).items() if part}
        sound = bool(found["EMAIL_BACKEND"]) and ("smtp" not in str(found["EMAIL_BACKEND"]) or "EMAIL_HOST" in found)
    except (ImproperlyConfigured, ValueError, KeyError):
        sound = False
    if not sound:  # the address itself may hold a password
        problem(name, "Not the address of a mail server (smtp+tls://user:password@host:587).")
        return {}
    return found


def database(name: str, *, default: str = "") -> dict[str, object] | None:
    """Read a PostgreSQL address as Django's settings for it; `None` where there is none."""
    value = text(name) or default
    if not value:
        return None
    try:
        found = dict(_env.db_url_config(value))
    except (ImproperlyConfigured, ValueError, KeyError):
        found = {}
    if "postgresql" not in str(found.get("ENGINE", "")):
        problem(name, "Not a PostgreSQL address (postgresql://user:password@host:port/name).")
        return {"ENGINE": "django.db.backends.postgresql", "NAME": "unconfigured"}
    socket = found.get("OPTIONS", {}).pop("host", "")  # `?host=/path`: libpq's way to name a Unix socket
    return {**found, "HOST": socket or found["HOST"]}
