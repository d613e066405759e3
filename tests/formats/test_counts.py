"""Counts in words."""

import pytest

from reliability.formats.counts import counted, plural


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 gaps"), (1, "1 gap"), (2, "2 gaps"), (1234, "1,234 gaps"), (1_000_000, "1,000,000 gaps")],
)
def test_the_noun_follows_the_count(count, words):
    assert counted(count, "gap") == words


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("dead letter", "dead letters"),
        ("delivery", "deliveries"),
        ("audit entry", "audit entries"),
        ("operation tally", "operation tallies"),
        ("day", "days"),
        ("branch", "branches"),
        ("process", "processes"),
    ],
)
def test_plurals_are_regular(one, many):
    assert plural(one) == many
