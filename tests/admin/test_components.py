import json
import time
from datetime import UTC, datetime, timedelta
from html import unescape
from re import search, sub

import pytest

from reliability.core import clock
from reliability.formats import json_text
from reliability.models import BreakerState, DeadLetterStatus, DeliveryState, OperationState
from reliability.templatetags import console
from scheduling.schedules.times import State

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def text_of(html: str) -> str:
    return unescape(sub(r"<[^>]*>", "", html))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "just now"),
        (12, "12 s ago"),
        (119, "1 min ago"),
        (3600, "1 h ago"),
        (3600 + 62, "1 h 1 min ago"),
        (90_000, "1 d 1 h ago"),
        (4 * 86_400 + 60, "4 d ago"),
        (-300, "in 5 min"),
    ],
)
def test_a_moment_is_said_in_words(seconds, words):
    assert console.relative(at=NOW - timedelta(seconds=seconds), now=NOW) == words


def test_a_moment_carries_its_exact_time(monkeypatch):
    monkeypatch.setattr(clock, "now", lambda: NOW)
    shown = console.moment(NOW - timedelta(minutes=5))
    assert 'datetime="2026-03-01T11:55:00+00:00"' in shown
    assert 'title="2026-03-01 11:55:00 UTC"' in shown
    assert text_of(shown) == "5 min ago"
    assert text_of(console.moment(None, "never")) == "never"


@pytest.mark.parametrize("states", [DeliveryState, DeadLetterStatus, BreakerState, OperationState, State])
def test_every_state_has_a_word_and_a_colour(states):
    grey = {str(one) for one in states if "bs-off" in console.status_badge(one)}
    assert grey <= {"cancelled", "skipped", "purged", "archived", "disabled"}
    assert all(text_of(console.status_badge(one)) for one in states)


def test_nothing_hostile_leaves_its_attribute():
    hostile = '"><script>alert(1)</script>'
    for shown in (console.copyable(hostile), console.status_badge(hostile), console.json_view(hostile)):
        assert "<script" not in shown
        assert '"><' not in sub(r'(bs-[a-z-]+|true|group|Copy|JSON|copy"|script&gt;|button|0)"><', "", shown)
    assert not console.copyable(None)


@pytest.mark.parametrize(
    "document",
    ['{"b": 1, "a": [2.50, 1e400, -0], "b": null}', '{"é": "日本", "t": "\\u00e9"}', "[]", '{"a": {}}', '"x"', "12"],
)
def test_json_is_shown_as_it_was_written(document):
    shown = json_text.show(document)
    assert shown.is_json
    assert not shown.is_cut
    assert json.loads(text_of(shown.html), object_pairs_hook=list) == json.loads(document, object_pairs_hook=list)


def test_numbers_keys_and_letters_stay_the_senders():
    shown = text_of(json_text.show('{"z": 1.50, "a": 12345678901234567890.0, "n": "\\u00e9"}').html)
    assert shown == '{\n  "z": 1.50,\n  "a": 12345678901234567890.0,\n  "n": "é"\n}'


@pytest.mark.parametrize(
    "sign", ["\u202e", "\u2066", "\u200b", "\u2028", "\ufeff", "\u061c", "\x7f", "\U000e0041", "\ud800"]
)
def test_what_would_mislead_is_shown_as_its_escape(sign):
    for text in (
        json.dumps({"a": f"x{sign}y"}, ensure_ascii=False),
        json.dumps({"a": f"x{sign}y"}),
        f"raw {sign} text",
    ):
        shown = json_text.show(text).html
        assert sign not in shown
        assert f"{ord(sign):04x}" in shown
        shown.encode()


@pytest.mark.parametrize("text", ["<html>&amp;</html>", "it failed", '{"a": undefined}', ""])
def test_other_text_is_shown_as_it_is(text):
    shown = json_text.show(text)
    assert not shown.is_json
    assert text_of(shown.html) == text


@pytest.mark.parametrize(
    "text",
    [
        '{"a": "' + "x" * 10_000_000 + '"}',
        "[" * 5_000_000 + "]" * 5_000_000,
        '{"a":' * 1_000_000,
        "[" + "1," * 5_000_000 + "1]",
        '"' + "\\\\" * 5_000_000 + '"',
        '"' + "\\u00e9" * 1_000_000 + '"',
        " " * 10_000_000,
        "<" * 10_000_000,
    ],
    ids=["string", "deep", "objects", "numbers", "escapes", "letters", "spaces", "text"],
)
def test_ten_megabytes_are_cut_at_once(text):
    begin = time.thread_time()
    shown = console.json_view(text, full_url="/whole/")
    assert time.thread_time() - begin < 1
    assert len(shown) < 1_500_000
    assert search(r"the full text has [\d.]+\sMB\.", shown)
    assert 'href="/whole/"' in shown
