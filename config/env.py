"""Typed readers of environment variables.

An invalid value is added to `problems` under the name of its variable, and the default is used; a system check then
prevents the start and lists all of them. No message repeats a value, which may be a secret in the wrong place.

Text is used as it is. White space around numbers, words, URLs and list entries is ignored.
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
    "In a user name or a password, write '@', '/', '#', '?', ':', '%' and spaces as %40, %2F, %23, %3F, %3A, %25, %20."
)


def read_file(path: Path) -> None:
    """Read variables from a file of `NAME=value` lines; variables of the process have priority."""
    try:
        found, wrong = env_file.read(path)
    except FileNotFoundError:
        return
    except OSError as error:
        problem(path.name, f"The file cannot be read: {error.strerror}.")
        return
    except UnicodeDecodeError:
        problem(path.name, "The file is not UTF-8 text.")
        return
    if wrong:
        lines = f"Line{'s' if len(wrong) > 1 else ''} {', '.join(map(str, wrong))}"
        problem(path.name, f"{lines}: not NAME=value, or a quote is not closed.")
    for name, value in found.items():
        os.environ.setdefault(name, value)


def problem(name: str, message: str) -> None:
    """Add an invalid variable, or file, to `problems`."""
    problems.append((name, message))


def text(name: str, default: str = "") -> str:
    """Read text as it is; the default if it is empty or not set."""
    return os.environ.get(name) or default


def credential(name: str) -> str:
    """Read a secret for a header, which cannot have leading or trailing white space, or control characters."""
    value = text(name)
    if value != value.strip() or not value.isprintable():
        problem(name, "Has leading or trailing white space, or a control character, which a header cannot contain.")
        return ""
    return value


def _word(name: str) -> str:
    return text(name).strip()


def boolean(name: str, *, default: bool) -> bool:
    value = _word(name).lower()
    if value in ("", "true", "1", "yes", "on"):
        return bool(value) or default
    if value not in ("false", "0", "no", "off"):
        problem(name, "Must be true or false.")
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
        problem(name, f"Must be a {'whole ' if kind is int else ''}number.")
        return default
    if not low <= number <= high:  # also true for NaN
        problem(name, f"{number} is out of range. Must be from {low} to {high}.")
        return default
    return number


def words(name: str, default: list[str]) -> list[str]:
    """Read a comma-separated list."""
    return [word.strip() for word in text(name).split(",") if word.strip()] or default


def mapping(name: str) -> dict[str, Any]:
    """Read a JSON object; empty by default."""
    try:
        value = json.loads(_word(name) or "{}")
    except ValueError:
        value = None
    if not isinstance(value, dict):
        problem(name, "Must be a JSON object.")
        return {}
    return value


def choice(name: str, default: str, *, among: tuple[str, ...]) -> str:
    """Read one of a few words; upper and lower case are equal."""
    value = _word(name)
    found = {word.casefold(): word for word in among}
    if value and value.casefold() not in found:
        problem(name, f"Must be one of {', '.join(among)}.")
    return found.get(value.casefold(), default)


def traces() -> str:
    """Return the exporter in OpenTelemetry's own variables: `otlp`, `console`, or an empty string for none."""
    if boolean("OTEL_SDK_DISABLED", default=False):
        return ""
    places = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    default = "otlp" if any(map(text, places)) else "none"
    chosen = choice("OTEL_TRACES_EXPORTER", default, among=("otlp", "console", "none"))
    if chosen == "otlp" and _word("OTEL_EXPORTER_OTLP_PROTOCOL") not in ("", "http/protobuf"):
        problem("OTEL_EXPORTER_OTLP_PROTOCOL", "Must be http/protobuf: Backstop supports no other protocol.")
    return "" if chosen == "none" else chosen


def url(name: str, default: str = "", *, is_base: bool = True) -> str:
    """Read an http or https URL, without a trailing slash.

    A base, to which paths are appended, has neither a query nor a fragment: the path would become a part of them.
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
    hint = f" {ENCODE}" if "@" in value else ""  # without an @ it has no password
    if not sound or re.search(r"[\s\x00-\x1f\x7f\\]", value):  # `urlsplit` drops some of them silently
        return f"Must be an http or https URL.{hint}"
    if is_base and re.search(r"[?#]", value):
        return "Must not contain '?' or '#': Backstop appends paths to this URL."
    return ""


def slug(name: str, pattern: str) -> str:
    """Read a slug, or an empty string."""
    value = _word(name)
    if value and not re.fullmatch(pattern, value):
        problem(name, "Must be a slug: 1 to 63 characters of a-z, 0-9 and '-', and not begin with '-'.")
        return ""
    return value


def addresses(name: str) -> list[str]:
    """Read a comma-separated list of email addresses."""
    found = words(name, [])
    for number, one in enumerate(found, start=1):
        try:
            validate_email(one)
        except ValidationError:
            problem(name, f"Entry {number} is not an email address.")
            return []
    return found


def mail(name: str) -> dict[str, object]:
    """Read the URL of a mail server as Django's `EMAIL_…` settings."""
    value = _word(name)
    if not value:
        return {}
    try:
        found = {key: part for key, part in environ.Env.email_url_config(value).items() if part}
        sound = bool(found["EMAIL_BACKEND"]) and ("smtp" not in str(found["EMAIL_BACKEND"]) or "EMAIL_HOST" in found)
        # In smtp://me:5/a@host, the standard takes "me" for the host and 5 for its port.
        sound = sound and not (urlsplit(value).netloc and "@" in value.partition(urlsplit(value).netloc)[2])
    except (ImproperlyConfigured, ValueError, KeyError):
        sound = False
    if not sound:  # the URL itself may contain a password
        problem(name, f"Must be the URL of a mail server (smtp+tls://user:password@host:587). {ENCODE}")
        return {}
    return found


def database(name: str, *, default: str = "") -> dict[str, object] | None:
    """Read a PostgreSQL URL, as libpq does, as Django's settings; `None` without one.

    A URL with an unencoded '@' or '/' in its password is refused: libpq would take a part of the password for the host
    or the database, and show it in its errors.
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
        problem(name, f"Must be a PostgreSQL URL (postgresql://user:password@host:port/name). {ENCODE}")
        return {"ENGINE": "django.db.backends.postgresql", "NAME": "unconfigured"}
    named = {"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host", "PORT": "port"}
    own = {setting: str(found.pop(one, None) or "") for setting, one in named.items()}
    return {"ENGINE": "django.db.backends.postgresql", **own, "OPTIONS": found}


def _is_ambiguous(address: str) -> bool:
    """Whether an '@' follows the one that libpq takes for the end of the password, or follows where it sees none.

    libpq looks for it up to the first '/'. Hosts and names must percent-encode it; a query may contain any character.
    """
    text = address.partition("://")[2]
    end = re.search("[@/]", text)
    rest = text[end.end() :] if end is not None and end[0] == "@" else text
    return "@" in rest.partition("?")[0]
