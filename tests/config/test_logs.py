"""One line per event, whatever its values hold."""

import logging

from config.logs import WideFormatter


def test_an_event_is_one_line_with_its_fields_as_json():
    record = logging.makeLogRecord({"name": "x", "levelname": "INFO", "msg": "attempt", "workflow": 'a"b\nc', "n": 1})
    line = WideFormatter().format(record)
    assert line.endswith('INFO x attempt workflow="a\\"b\\nc" n=1')
    assert "\n" not in line


def test_a_message_cannot_forge_a_line():
    record = logging.makeLogRecord({"name": "x", "levelname": "INFO", "msg": "a\nb %s", "args": ("\r\n",)})
    assert "\n" not in WideFormatter().format(record)
