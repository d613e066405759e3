"""The layout of JSON text."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reliability.formats import json_text

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON, st.booleans())
def test_the_document_stays_the_same(document, ascii_only):
    text = json.dumps(document, ensure_ascii=ascii_only)
    assert json_text.indent(text) == json.dumps(document, ensure_ascii=ascii_only, indent=2)
    assert json_text.compact(json_text.indent(text)) == json.dumps(
        document, ensure_ascii=ascii_only, separators=(",", ":")
    )
    assert json.loads(json_text.visible(json_text.indent(text))) == document


@pytest.mark.parametrize("text", ['{"b":1.50,"a":1e2,"a":12345678901234567890.0}', '{ "b" : 1.50 , "a":1e2 }'])
def test_keys_and_numbers_stay_as_they_were_written(text):
    assert json_text.compact(json_text.indent(text)) == text.replace(" ", "")


@pytest.mark.parametrize("text", ["", '"no end', "plain words"])
def test_what_is_no_json_does_no_harm(text):
    assert json_text.indent(text).replace(" ", "") == text.replace(" ", "")
