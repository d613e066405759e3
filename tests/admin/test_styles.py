"""The console's style sheets: each rule has one place."""

import re
from collections import Counter
from pathlib import Path

import reliability

SHEETS = sorted((Path(reliability.__file__).parent / "static" / "reliability").glob("*.css"))


def rules(text: str, around: str = ""):
    """Yield each rule of a sheet: what it is about, with the media query around it, and what it says."""
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    for head, body in re.findall(r"([^{}]+)\{((?:[^{}]|\{[^{}]*\})*)\}", text):
        if head.strip().startswith("@"):
            yield from rules(body, head.strip())
        else:
            yield f"{around} {' '.join(head.split())}".strip(), " ".join(body.split())


def test_no_rule_is_written_twice():
    assert len(SHEETS) > 3
    found = Counter(about for sheet in SHEETS for about, _ in rules(sheet.read_text()))
    assert len(found) > 200
    assert [about for about, times in found.items() if times > 1] == []


def test_every_name_is_ours_and_no_list_says_the_same_twice():
    """What two sheets say of one name in other words would depend on which is read last."""
    places: dict[str, set[str]] = {}
    for sheet in SHEETS:
        for about, _ in rules(sheet.read_text()):
            if re.fullmatch(r"\.bs-[\w-]+", about):
                places.setdefault(about, set()).add(sheet.name)
    assert {name: sheets for name, sheets in places.items() if len(sheets) > 1} == {}
