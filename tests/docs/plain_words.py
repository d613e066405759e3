"""Phrases that the documents, the console and the code's texts do not use, each with what to write instead."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from .blocks import GENERATED, ROOT

# Patterns of regular expressions, whatever their case; white space stands for any.
BANNED: dict[str, str] = {
    # Riddles and abstract openings.
    r"whoever": "anyone who, or name who",
    r"what nobody": "say what it is: entries that no operator has …",
    r"nobody has touched": "No operator actions yet",
    r"nothing is touched by looking": "Preview only.",
    r"what dies from now": "Later failures are not included.",
    r"(?:what|that) came of": "Outcome, result",
    r"what became of": "the result of, what happened to",
    r"how it stands": "Status",
    r"how (?:each|one|they|everything) stands?": "Status, state",
    r"no attempt of ours": "No attempts yet",
    r"it goes before the": "Overrides the …",
    r"as if it were nothing": "say what happens",
    r"makes? no sense": "is invalid",
    r"senseless": "invalid",
    r"go over again": "repeat",
    r"press it again": "Check before retrying.",
    r"nothing left to press": "This operation has finished.",
    r"would have to be paused": "Can't resume: already cancelled.",
    # Metaphors and personification.
    r"out of order": "is failing, is down",
    r"keep(?:s|ing)? house": "housekeeping",
    r"quiet periods?": "silence",
    r"in (?:the )?hands? of": "acknowledged by, held by",
    r"has it in hand": "has acknowledged it",
    r"in hand\b": "in flight, in progress",
    r"in its hands": "in progress",
    r"the hand on it": "Control",
    r"(?:laid|lay|lays) back": "marked dead again, returned to the queue",
    r"by a person's hand": "by an operator",
    r"(?:handed|hands|handing) over": "queued, passed to",
    r"(?:hand|hands|handed) in (?:work|its|the|his)": "submit",
    r"under way": "in flight, in progress, running",
    r"passed over": "skipped",
    r"(?:goes|go|went|going|gone) on with": "continues, resumes",
    r"the way through": "data flow",
    r"\bmend(?:s|ed|ing)?\b": "fix",
    r"\bburie[sd]\b|\bbury\b|\bburial\b": "dead-lettered: becomes a dead letter",
    r"the rooms\b|other rooms\b|\ba room\b": "package",
    r"\bdeeds?\b": "operator actions",
    r"does nobody work": "Are workers running?",
    r"\blet go\b": "resume traffic; release",
    r"bring(?:s|ing)? back what": "Replay dead letters",
    r"an effect is had|has its effect|have its effect|effect is had": "takes effect",
    r"needs? a look|to look at\b": "need attention; check",
    r"nothing was told|was told of|told of it|\btold again\b": "notification sent, notified",
    r"the breaker hears|breaker hears|hears of|hear of": "counts; receives",
    r"made-up|made up and": "demo (data); generated",
    r"one look\b": "summary, status",
    r"\bmoves house\b": "planned maintenance",
    r"in vain": "without success",
    r"for good\b(?! reason)": "permanently, forever; 'failed for good' of a delivery may stay",
    r"gets its turn": "is processed",
    r"a letter (?:goes|comes)|letters that": "dead letter",
    r"\bof ours\b": "Backstop's",
    r"died, after": "new dead letters (previous period: …)",
    r"it is over:": "This operation has finished.",
    r"once; \d+ further": "Stored; 1 duplicate ignored",
    r"a place within the limit": "Waiting for a slot (… in use).",
    r"until it lets something through": "until it closes",
    r"a second\b(?= (?:at|by|each))": "per second",
}
# Where a phrase is right: parts of it, as they stand in a text.
RIGHT = ("failed for good", "fails for good", "dead letters that")
TEMPLATES = ("templates", "reliability/templates", "scheduling/templates")
CODE = ("reliability", "scheduling", "config")
PATTERNS = {re.compile(phrase.replace(" ", r"\s+"), re.IGNORECASE): better for phrase, better in BANNED.items()}


def wrong_with(text: str) -> list[str]:
    """Return each banned phrase of a text, with what to write instead."""
    plain = re.sub(r"\s+", " ", text)
    for one in RIGHT:
        plain = plain.replace(one, "")
    return [
        f"'{found[0]}' (write: {better})" for pattern, better in PATTERNS.items() if (found := pattern.search(plain))
    ]


def documents() -> Iterator[Path]:
    """Return the documents and templates that people read."""
    yield from (ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "n8n/README.md"))
    yield from (path for path in sorted((ROOT / "docs").rglob("*.md")) if GENERATED not in path.parents)
    yield from sorted((ROOT / "docs" / "images").glob("*.svg"))
    yield ROOT / "docs" / "site" / "settings.yml"
    for folder in TEMPLATES:
        yield from sorted((ROOT / folder).rglob("*.html"))


def sources() -> Iterator[Path]:
    """Return the code whose string literals and docstrings are read."""
    for folder in CODE:
        yield from (path for path in sorted((ROOT / folder).rglob("*.py")) if "migrations" not in path.parts)


def strings(path: Path) -> Iterator[tuple[int, str]]:
    """Return the string literals of a module, docstrings included, that hold words and not code."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value


def prose(path: Path) -> str:
    """Return a document's text without its code."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".svg":
        text = re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)
    if path.suffix == ".md":
        text = re.sub(r"^(?: {4}|```).*?(?:\n(?:```)|$)", "", text, flags=re.MULTILINE)
        text = re.sub(r"`[^`]*`", "", text)
    return re.sub(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}", "", text, flags=re.DOTALL)
