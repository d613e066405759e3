"""Documents, console and code use plain words: none of the phrases of `plain_words.BANNED`."""

import pytest

from . import plain_words
from .blocks import ROOT
from .plain_words import documents, sources, strings, wrong_with

# Files that still have such phrases, until they are rewritten. A file that has none any more must leave the list.
ALLOWED: set[str] = set()


def name(path) -> str:
    return str(path.relative_to(ROOT))


def faults_of(path) -> list[str]:
    if path.suffix == ".py":
        found = [(line, wrong) for line, text in strings(path) for wrong in wrong_with(text)]
        return [f"{name(path)}:{line}: {wrong}" for line, wrong in found]
    return [f"{name(path)}: {wrong}" for wrong in wrong_with(plain_words.prose(path))]


@pytest.mark.parametrize("path", [*documents(), *sources()], ids=name)
def test_no_banned_phrase(path):
    faults = faults_of(path)
    if name(path) in ALLOWED:
        assert faults, f"{name(path)} is plain now: take it off the list ALLOWED."
        pytest.skip("still to be rewritten")
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("text", "is_plain"),
    [
        ("The workflow is out of order.", False),
        ("Whoever comes\n  with an older one", False),
        ("The workflow is failing.", True),
        ("a delivery that failed for good", True),
        ("This address makes no\n sense.", False),
    ],
)
def test_what_is_found(text, is_plain):
    assert (wrong_with(text) == []) == is_plain
