"""Documents, console and code use plain words: none of the phrases of `plain_words.BANNED`."""

import pytest

from . import plain_words
from .blocks import ROOT
from .plain_words import documents, sources, strings, wrong_with


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
    assert not faults, "\n".join(faults)
