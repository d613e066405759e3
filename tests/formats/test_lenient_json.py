"""What nobody sends a second time is read as far as it goes."""

import json
import time

import pytest

from reliability.errors import InvalidInput
from reliability.formats import lenient_json

CASES = [
    (b'{"a": "x\\u0000y"}', {"a": "x�y"}),
    (b'{"a\\u0000": "\\ud800"}', {"a�": "�"}),
    (b'{"a": "\\ud83d\\ude42"}', {"a": "🙂"}),
    (b'{"a": "x\x00y"}', {"a": "x�y"}),
    (b'{"a": "x\xff\xc3y"}', {"a": "x��y"}),
    (b'{"a": "line\nbreak\ttab"}', {"a": "line\nbreak\ttab"}),
    (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
    (b'{"a": NaN, "b": -Infinity, "c": 1e400}', {"a": "NaN", "b": "-Infinity", "c": "1e400"}),
    (b'{"a": ' + b"1" * 5000 + b"}", {"a": "1" * 5000}),
    (b'{"a": 1, "a": 2}', {"a": 2}),
    (b"[1]", [1]),
]


@pytest.mark.parametrize(("body", "value"), CASES, ids=lambda one: str(one)[:30])
def test_what_cannot_be_stored_is_replaced(body, value):
    found = lenient_json.load(body)
    assert found == value
    json.dumps(found, allow_nan=False, ensure_ascii=False).encode()


@pytest.mark.parametrize("body", [b"", b"{", b"plain text", b'{"a": "b" "c"}', b"a=b", b"\xff\xfe{}", b"[" * 500])
def test_what_is_no_json_is_refused(body):
    with pytest.raises(InvalidInput, match="not JSON"):
        lenient_json.load(body)


@pytest.mark.parametrize("levels", [101, 5_000, 200_000])
def test_what_is_too_deep_is_left_out_and_all_around_it_kept(levels):
    deep = '{"x": [' * (levels // 2) + "5" + "]}" * (levels // 2)
    found = lenient_json.load(f'{{"before": "[{{", "deep": {deep}, "after": {{"n": 1}}}}'.encode())
    assert (found["before"], found["after"]) == ("[{", {"n": 1})
    text, depth = json.dumps(found), 0
    assert "[too deep]" in text
    while isinstance(found, dict | list):
        found, depth = (found.get("deep", found.get("x")) if isinstance(found, dict) else found[0]), depth + 1
    assert (found, depth) == ("[too deep]", 100)


def test_exactly_as_deep_as_may_be_is_whole():
    assert "too deep" not in json.dumps(lenient_json.load(("[" * 100 + "]" * 100).encode()))


def test_the_worst_takes_a_bounded_time():
    begun = time.process_time()
    with pytest.raises(InvalidInput):
        lenient_json.load(b"[" * 2_000_000)
    assert time.process_time() - begun < 30
