"""One line per event, whatever its values hold."""

import io
import json
import logging
import logging.config

import pytest
from django.db import DataError, connection

from config import env, logs
from config.logs import JsonFormatter, OriginFilter, WideFormatter
from reliability.core import request_context
from reliability.core.request_context import RequestContext


def test_an_event_is_one_line_with_its_fields_as_json():
    record = logging.makeLogRecord({"name": "x", "levelname": "INFO", "msg": "attempt", "workflow": 'a"b\nc', "n": 1})
    line = WideFormatter().format(record)
    assert line.endswith('INFO x attempt workflow="a\\"b\\nc" n=1')
    assert "\n" not in line


def test_a_message_cannot_forge_a_line():
    record = logging.makeLogRecord({"name": "x", "levelname": "INFO", "msg": "a\nb %s", "args": ("\r\n",)})
    assert "\n" not in WideFormatter().format(record)


def test_json_is_one_object_on_one_line_whose_own_members_no_field_replaces():
    values = {"levelname": "INFO", "msg": "attempt", "n": 1, "tenant": "a\nb", "event": "forged", "at": object}
    line = JsonFormatter().format(logging.makeLogRecord({"name": "x", **values}))
    assert "\n" not in line
    found = json.loads(line)
    assert found["at"].startswith("<class")
    assert found["time"].endswith("+00:00")
    assert {"level": "INFO", "logger": "x", "event": "attempt", "n": 1, "tenant": "a\nb"}.items() <= found.items()


def test_json_keeps_a_traceback_within_its_line():
    try:
        raise TypeError("it broke")
    except TypeError as error:
        record = logging.makeLogRecord({"msg": "failed", "exc_info": (TypeError, error, error.__traceback__)})
    line = JsonFormatter().format(record)
    assert "\n" not in line
    shown = json.loads(line)["exception"]
    assert "TypeError: it broke" in shown
    assert "test_json_keeps_a_traceback_within_its_line" in shown


@pytest.fixture
def lines():
    """Lines as they are written with LOG_LEVEL=DEBUG; the loggers are as they were afterwards."""
    stream, made = io.StringIO(), logs.configuration(level="DEBUG")
    made["handlers"]["stderr"]["stream"] = stream
    names = [None, *made["loggers"], *OTHERS]
    before = [(logging.getLogger(one), logging.getLogger(one).level, logging.getLogger(one).propagate) for one in names]
    handlers = logging.getLogger().handlers[:]
    logging.config.dictConfig(made)
    yield stream
    logging.getLogger().handlers[:] = handlers
    for logger, level, propagate in before:
        logger.setLevel(level)
        logger.propagate = propagate


OTHERS = [
    "django.template",
    "django.db.backends",
    "django.request",
    "urllib3.connectionpool",
    "requests",
    "stripe",
    "procrastinate.worker",
    "psycopg",
    "psycopg.pool",
    "axes.handlers",
    "asyncio",
    "backoff",
    "opentelemetry.sdk",
    "some.library",
]


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("sets_its_level", [False, True])
def test_only_our_own_loggers_go_below_info(lines, name, sets_its_level):
    if sets_its_level:
        logging.getLogger(name).setLevel(logging.DEBUG)
    logging.getLogger(name).debug("a secret")
    logging.getLogger(name).log(15, "a secret")
    for own in logs.OWN_LOGGERS:
        logging.getLogger(f"{own}.some_module").debug("ours_%s", own)
    written = lines.getvalue()
    assert "a secret" not in written
    assert [f"ours_{one}" in written for one in logs.OWN_LOGGERS] == [True] * 4


def test_addresses_are_written_without_their_queries_and_keys_not_at_all(lines):
    logging.getLogger("django.server").warning('"GET /cron/a/?secret=s3cret&x=1 HTTP/1.1" %s', 404)
    logging.getLogger("some.library").error("calling https://n8n/x?key=s3cret failed: Bearer s3cret-token")
    logging.getLogger("reliability").info("odd", extra={"text": "bsk_" + "s3cret" * 5})
    written = lines.getvalue()
    assert "s3cret" not in written
    assert '"GET /cron/a/?… HTTP/1.1" 404' in written
    assert "https://n8n/x?… failed" in written


SECRET = "s3cret"  # so that the source lines of a traceback do not hold it


@pytest.mark.parametrize("formatter", [WideFormatter(), JsonFormatter()], ids=["text", "json"])
def test_an_exceptions_message_is_written_only_where_it_cannot_quote_data(formatter):
    try:
        try:
            raise ValueError(SECRET)
        except ValueError as error:
            raise KeyError(SECRET) from error
    except KeyError as error:
        info = (KeyError, error, error.__traceback__)
    text = formatter.format(logging.makeLogRecord({"name": "x", "msg": "failed", "exc_info": info}))
    assert "s3cret" not in text
    assert text.index("ValueError (its message") < text.index("KeyError (its message")


@pytest.mark.django_db
def test_what_postgresql_quotes_of_a_row_is_not_written():
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT %s::jsonb", ["{" + SECRET])
    except DataError as error:
        text = WideFormatter().formatException((DataError, error, error.__traceback__))
    assert "django.db.utils.DataError" in text
    assert "psycopg.errors.InvalidTextRepresentation (SQLSTATE 22P02)" in text
    assert "s3cret" not in text


@pytest.mark.parametrize(
    ("within", "named", "shown"),
    [("a", None, "a"), ("a", "b", "b"), (None, "b", "b"), (None, None, None)],
    ids=["of-the-request", "by-itself", "outside", "none"],
)
def test_a_line_names_the_request_it_is_about(within, named, shown):
    record = logging.makeLogRecord({"msg": "x", **({"request_id": named} if named else {})})
    if within:
        with request_context.within(RequestContext(within)):
            OriginFilter().filter(record)
    else:
        OriginFilter().filter(record)
    assert getattr(record, "request_id", None) == shown


def test_a_format_that_does_not_exist_is_a_problem(monkeypatch):
    monkeypatch.setattr(env, "problems", [])
    monkeypatch.setenv("LOG_FORMAT", "XML")
    assert env.choice("LOG_FORMAT", "text", among=logs.FORMATS) == "text"
    assert env.problems == [("LOG_FORMAT", "Must be one of text, json.")]
    monkeypatch.setenv("LOG_FORMAT", "JSON")
    assert env.choice("LOG_FORMAT", "text", among=logs.FORMATS) == "json"
