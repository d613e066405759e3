"""Typed readers of the environment.

A value that cannot be read or makes no sense is noted in `problems` under its variable's name, and the default
stands in for it; a system check then stops the start with all of them at once. No message repeats a value, which may be
a secret that was put in the wrong place.

Text is taken as it stands. Of a number, a word, an address or a list, white space around it does not count.
"""

import json
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.validators import validate_email
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from . import env_file

problems: list[tuple[str, str]] = []
POSTGRESQL = ("postgresql://", "postgres://")
ENCODE = (
    "Write '@', '/', '#', '?', ':', '%' and spaces in a user's name or a password as %40, %2F, %23, %3F, %3A, %25, %20."
)


def read_file(path: Path) -> None:
    """Take variables from a file of `NAME=value` lines; those of the process itself win."""
    try:
        found, wrong = env_file.read(path)
    except FileNotFoundError:
        return
    except OSError as error:
        problem(path.name, f"It cannot be read: {error.strerror}.")
        return
    except UnicodeDecodeError:
        problem(path.name, "It is not text in UTF-8.")
        return
    if wrong:
        which = f"Line{'s' if len(wrong) > 1 else ''} {', '.join(map(str, wrong))}"
        problem(path.name, f"{which}: not NAME=value with quotes in pairs.")
    for name, value in found.items():
        os.environ.setdefault(name, value)


def problem(name: str, message: str) -> None:
    """Note that the variable `name` makes no sense."""
    problems.append((name, message))


def text(name: str, default: str = "") -> str:
    """Read text as it stands; the default where there is none."""
    return os.environ.get(name) or default


def credential(name: str) -> str:
    """Read a secret that travels in a header, which can carry neither white space around it nor control characters."""
    value = text(name)
    if value != value.strip() or not value.isprintable():
        problem(name, "It has white space around it, or a control character: no header can carry that.")
        return ""
    return value


def _word(name: str) -> str:
    return text(name).strip()


def boolean(name: str, *, default: bool) -> bool:
    value = _word(name).lower()
    if value in ("", "true", "1", "yes", "on"):
        return bool(value) or default
    if value not in ("false", "0", "no", "off"):
        problem(name, "Neither true nor false.")
        return default
    return False


def integer(name: str, default: int, *, low: int, high: int) -> int:
    """Read a whole number within [low, high]."""
    return int(_number(name, default, low, high, int))


def decimal(name: str, default: float, *, low: float, high: float) -> float:
    """Read a number within [low, high]."""
    return float(_number(name, default, low, high, float))


def _number(name: str, default: float, low: float, high: float, kind: type) -> float:
    value = _word(name)
    if not value:
        return default
    try:
        number: float = kind(value)
    except ValueError:
        problem(name, f"Not a {'whole ' if kind is int else ''}number.")
        return default
    if not low <= number <= high:  # not-a-number is in no range either
        problem(name, f"{number} is outside {low} to {high}.")
        return default
    return number


def words(name: str, default: list[str]) -> list[str]:
    """Read a comma-separated list."""
    return [word.strip() for word in text(name).split(",") if word.strip()] or default


def mapping(name: str) -> dict[str, Any]:
    """Read a JSON object; an empty one where there is none."""
    try:
        value = json.loads(_word(name) or "{}")
    except ValueError:
        value = None
    if not isinstance(value, dict):
        problem(name, "Not a JSON object.")
        return {}
    return value


def choice(name: str, default: str, *, among: tuple[str, ...]) -> str:
    """Read one of a few words, whatever their case."""
    value = _word(name)
    found = {word.casefold(): word for word in among}
    if value and value.casefold() not in found:
        problem(name, f"None of {', '.join(among)}.")
    return found.get(value.casefold(), default)


def traces() -> str:
    """Return where OpenTelemetry's own variables send traces, `otlp` or `console`; empty where they ask for none."""
    if boolean("OTEL_SDK_DISABLED", default=False):
        return ""
    places = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    default = "otlp" if any(map(text, places)) else "none"
    chosen = choice("OTEL_TRACES_EXPORTER", default, among=("otlp", "console", "none"))
    if chosen == "otlp" and _word("OTEL_EXPORTER_OTLP_PROTOCOL") not in ("", "http/protobuf"):
        problem("OTEL_EXPORTER_OTLP_PROTOCOL", "Traces are sent by http/protobuf only.")
    return "" if chosen == "none" else chosen


def url(name: str, default: str = "", *, is_base: bool = True) -> str:
    """Read an http or https address, without a slash at its end.

    A base, to which paths are added, has neither a query nor a fragment: they would swallow the path.
    """
    value = _word(name) or default
    if value and (why := _unsound_url(value, is_base=is_base)):
        problem(name, why)
        return default.rstrip("/")
    return value.rstrip("/") if is_base else value


def _unsound_url(value: str, *, is_base: bool) -> str:
    try:
        parts = urlsplit(value)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        sound = False
    hint = f" {ENCODE}" if "@" in value else ""  # else it holds no password
    if not sound or re.search(r"[\s\x00-\x1f\x7f\\]", value):  # `urlsplit` drops some of them silently
        return f"Not an http or https address.{hint}"
    if is_base and re.search(r"[?#]", value):
        return "An address with '?' or '#': paths are added to it, so that it has to end before them."
    return ""


def slug(name: str, pattern: str) -> str:
    """Read a slug of that pattern, or nothing."""
    value = _word(name)
    if value and not re.fullmatch(pattern, value):
        problem(name, "Not a slug: 1 to 63 of a-z, 0-9 and '-', not beginning with '-'.")
        return ""
    return value


def addresses(name: str) -> list[str]:
    """Read a comma-separated list of mail addresses."""
    found = words(name, [])
    for number, one in enumerate(found, start=1):
        try:
            validate_email(one)
        except ValidationError:
            problem(name, f"Entry {number} is not a mail address.")
            return []
    return found


def mail(name: str) -> dict[str, object]:
    """Read a mail server's address as Django's `EMAIL_…` settings; none where there is none."""
    value = _word(name)
    if not value:
        return {}
    try:
        found = {key: part for key, part in environ.Env.email_url_config(value).items() if part}
        sound = bool(found["EMAIL_BACKEND"]) and ("smtp" not in str(found["EMAIL_BACKEND"]) or "EMAIL_HOST" in found)
        # Of smtp://me:5/a@host, "me" is the host by the letter of the standard, and 5 its port.
        sound = sound and not (urlsplit(value).netloc and "@" in value.partition(urlsplit(value).netloc)[2])
    except (ImproperlyConfigured, ValueError, KeyError):
        sound = False
    if not sound:  # the address itself may hold a password
        problem(name, f"Not the address of a mail server (smtp+tls://user:password@host:587). {ENCODE}")
        return {}
    return found


def database(name: str, *, default: str = "") -> dict[str, object] | None:
    """Read a PostgreSQL address, as libpq does, as Django's settings for it; `None` where there is none.

    One in which an '@' or '/' of a password may stand for itself is refused: libpq would take a part of the password
    for the host or the database, and say it in its errors.
    """
    value = text(name) or default
    if not value:
        return None
    try:
        found = conninfo_to_dict(value) if value.startswith(POSTGRESQL) else {}
    except (ProgrammingError, UnicodeError):
        found = {}
    sound = found.get("dbname") and re.fullmatch(r"(\d{1,5})?(,(\d{1,5})?)*", str(found.get("port") or ""))
    if not sound or _is_ambiguous(value):
        problem(name, f"Not a PostgreSQL address (postgresql://user:password@host:port/name). {ENCODE}")
        return {"ENGINE": "django.db.backends.postgresql", "NAME": "unconfigured"}
    named = {"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host", "PORT": "port"}
    own = {setting: str(found.pop(one, None) or "") for setting, one in named.items()}
    return {"ENGINE": "django.db.backends.postgresql", **own, "OPTIONS": found}


def _is_ambiguous(address: str) -> bool:
    """Whether an '@' follows the one that libpq takes for the end of the password, or comes where it sees no password.

    libpq looks for it up to the first '/'. Hosts and names that hold one are percent-encoded; a query may hold any.
    """
    text = address.partition("://")[2]
    end = re.search("[@/]", text)
    rest = text[end.end() :] if end is not None and end[0] == "@" else text
    return "@" in rest.partition("?")[0]
