"""One text for each JSON value."""

import json
import time
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reliability.errors import InvalidInput
from reliability.formats import strict_json
from reliability.formats.canonical_json import canonical


def of(text: str) -> str:
    return canonical(strict_json.load(text))


SAME = [
    ("1", "1.0"),
    ("1", "1e0"),
    ("1", "10E-1"),
    ("1", "0.1e1"),
    ("0", "-0"),
    ("0", "-0.0"),
    ("0", "0e999999"),
    ("100", "1E+2"),
    ("0.5", "5e-1"),
    ("0.5", "0.50"),
    ("1e-7", "0.0000001"),
    ("1" + "0" * 300, "1e300"),
    ("12345678901234567890", "12345678901234567890.0"),
    ("9007199254740993", "9007199254740993.0"),
    ("0.1000000000000000055511151231257827", "1000000000000000055511151231257827e-34"),
    ("1e-999999999", "10e-1000000000"),
    ('"A\\u00e9"', '"\\u0041é"'),
    ('{"a": 1.0, "b": [2.0, {"c": 3e0}]}', ' {"b":[2,{"c":3}],"a":1}'),
]
DIFFERENT = [
    ("1", "2"),
    ("1", "-1"),
    ("1", "true"),
    ("0", "false"),
    ("1", '"1"'),
    ("0.1", "0.1000000000000000055511151231257827"),
    ("0.1", "0.10000000000000001"),
    ("9007199254740992", "9007199254740993"),
    ("9007199254740992.0", "9007199254740993.0"),
    ("1e-999999999", "0"),
    ("1e-999999999", "1e-999999998"),
    ("1e300", "1000000000000000052504760255204420248704468581108159154915854115111802457988908195786371375080447854"),
    ("null", "0"),
    ('"é"', '"e\\u0301"'),
    ('"1.0"', '"1"'),
    ('["1.0,"]', '["1,"]'),
    ("[1, 2]", "[2, 1]"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_one_value_has_one_text_however_it_is_spelt(one, other):
    assert of(f"[{one}]") == of(f"[{other}]")
    assert of(f'{{"a": {one}}}') == of(f'{{"a": {other}}}')


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_two_values_have_two_texts(one, other):
    assert of(f"[{one}]") != of(f"[{other}]")


def test_the_text_is_what_it_was_before_for_whatever_has_one_spelling():
    document = {"b": [1, 2.5, -0.125, 1e-05, 1.5e-07, None, True, "é.5"], "a": {"y": "x.5,", "x": 10**30}}
    assert canonical(document) == json.dumps(document, sort_keys=True, separators=(",", ":"))


decimals = st.builds(
    lambda sign, digits, point, power: f"{sign}{digits[:point] or '0'}.{digits[point:] or '0'}e{power}",
    st.sampled_from(("", "-")),
    st.from_regex(r"[1-9][0-9]{0,24}", fullmatch=True),
    st.integers(0, 25),
    st.integers(-40, 40),
)
numbers = st.one_of(decimals, st.integers().map(str), st.floats(allow_nan=False, allow_infinity=False).map(repr))


@given(numbers, numbers)
def test_numbers_are_compared_by_their_exact_decimal_value(one, other):
    assert (of(f"[{one}]") == of(f"[{other}]")) == (Decimal(one) == Decimal(other))


@given(numbers)
def test_a_number_is_equal_to_itself_written_at_length(one):
    assert of(f"[{one}]") == of(f"[{Decimal(one):f}]")


@pytest.mark.parametrize(
    "number", ["1e999999999", "1e400", "-1e400", "1" * 5000, "0." + "1" * 5000, "1e" + "9" * 5000, "1e-" + "9" * 5000]
)
def test_a_number_beyond_all_is_refused_at_once(number):
    begun = time.process_time()
    with pytest.raises(InvalidInput, match=r"too (large|long)"):
        of(f"[{number}]")
    assert time.process_time() - begun < 1


def test_an_exponent_is_not_written_out():
    assert len(of("[1e-999999999]")) < 30
