import json

import pytest

from reliability.formats.storable import storable, storable_json
from reliability.policies.classification import Reply, classify_reply
from reliability.policies.failure import describe

CASES = [
    ("plain", "plain"),
    ("日本 🙂", "日本 🙂"),
    ("a\x00b", "a�b"),
    ("a\ud800b", "a�b"),
    ("\udc00", "�"),
    ("\ud83d\ude42", "🙂"),  # two halves that belong together
]


@pytest.mark.parametrize(("text", "kept"), CASES)
def test_what_postgresql_cannot_keep_is_replaced(text, kept):
    assert storable(text) == kept
    storable(text).encode()


@pytest.mark.parametrize("text", ["a\x00b", "a\ud800b"])
def test_what_n8n_says_is_storable_whoever_says_it(text):
    assert classify_reply(Reply(422, {}, json.dumps({"message": text}))).message == "a�b"
    assert describe("", {"message": text}) == "a�b"


@pytest.mark.parametrize(("text", "kept"), CASES)
def test_of_json_all_strings_are_and_so_are_names(text, kept):
    value = {text: [text, {"n": [1, None, True, text]}]}
    assert storable_json(value, text=json.dumps(value)) == {kept: [kept, {"n": [1, None, True, kept]}]}
