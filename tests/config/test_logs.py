"""One line per event, whatever its values hold."""

import json
import logging

import pytest

from config import env, logs
from config.logs import JsonFormatter, OriginFilter, WideFormatter
from reliability import origin
from reliability.origin import Origin


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
        raise ValueError("it broke")
    except ValueError as error:
        record = logging.makeLogRecord({"msg": "failed", "exc_info": (ValueError, error, error.__traceback__)})
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert "ValueError: it broke" in json.loads(line)["exception"]


@pytest.mark.parametrize(
    ("within", "named", "shown"),
    [("a", None, "a"), ("a", "b", "b"), (None, "b", "b"), (None, None, None)],
    ids=["of-the-request", "by-itself", "outside", "none"],
)
def test_a_line_names_the_request_it_is_about(within, named, shown):
    record = logging.makeLogRecord({"msg": "x", **({"request_id": named} if named else {})})
    if within:
        with origin.within(Origin(within)):
            OriginFilter().filter(record)
    else:
        OriginFilter().filter(record)
    assert getattr(record, "request_id", None) == shown


def test_a_format_that_does_not_exist_is_a_problem(monkeypatch):
    monkeypatch.setattr(env, "problems", [])
    monkeypatch.setenv("LOG_FORMAT", "XML")
    assert env.choice("LOG_FORMAT", "text", among=logs.FORMATS) == "text"
    assert env.problems == [("LOG_FORMAT", "'XML' is none of text, json.")]
    monkeypatch.setenv("LOG_FORMAT", "JSON")
    assert env.choice("LOG_FORMAT", "text", among=logs.FORMATS) == "json"
