"""The commands of a shell block, one by one; and whether `manage.py NAME --flag` is something that there is."""

import argparse
import re
import shlex

from django.core.management import get_commands, load_command_class

from .blocks import NOT_RUN

# Those that run until they are ended; those that write beside the code; and the suite itself.
ELSEWHERE = (
    r"(?:\.venv/bin/python +)?manage\.py +(?:procrastinate +worker|worker|up|runserver|collectstatic|makemigrations)\b"
    r"|\.venv/bin/python +-m +pytest\b"
)
# Places of the machine itself: what touches them is not for a test.
SYSTEM = r"(?<![\w.:/])/(?:bin|boot|etc|home|lib|opt|root|run|sbin|srv|usr|var)\b"
HEREDOC = re.compile(r"<<-?\s*['\"]?(\w+)['\"]?")
MANAGE = re.compile(r"(?<![\w/-])manage\.py +([a-z_]\w*)([^`|;&>\n)]*)")


def split(text: str) -> list[str]:
    """Return a block's commands: a command goes on after `\\`, within quotes, in a heredoc, and up to its `done`."""
    found: list[str] = []
    held = ""
    for line in text.splitlines():
        held += line + "\n"
        if is_whole(held):
            found, held = [*found, held.rstrip("\n")], ""
    return [one for one in [*found, held.rstrip("\n")] if one.strip()]


def is_whole(text: str) -> bool:
    """Say whether a command ends here, as far as a shell would wait for more."""
    document = HEREDOC.search(text)
    if document:
        return bool(re.search(rf"^{document[1]}$", text, re.MULTILINE))
    if text.rstrip("\n").endswith(("\\", "|", "&&")):
        return False
    try:
        words = shlex.split(text, comments=True)
    except ValueError:
        return False  # a quote is still open
    opened, closed = {"do", "then"} & set(words), {"done", "fi"} & set(words)
    return len(opened) <= len(closed) and not ({"for", "while", "until"} & set(words[:1]) and not closed)


def is_run(command: str) -> bool:
    """Say whether the tests run a command; others are of `ELSEWHERE`, `SYSTEM` and `NOT_RUN`, in any of their parts."""
    if re.search(SYSTEM, command):
        return False
    parts = [command] if HEREDOC.search(command) else re.split(r"&&|\|\||;|\||\n", command)
    return all(_is_part_run(one) for one in parts if one.strip())


def _is_part_run(part: str) -> bool:
    plain = re.sub(r"^[\s(]*(?:[A-Z0-9_]+=\S* +)*(?:exec +)?", "", part)
    return not re.match(ELSEWHERE, plain) and plain.split(maxsplit=1)[:1] not in [[one] for one in NOT_RUN]


def wrong_with(text: str) -> list[str]:
    """Return what is wrong with every `manage.py NAME …` in a text: no such command, or no such option."""
    return [said for name, rest in MANAGE.findall(text) for said in _wrong(name, rest)]


def _wrong(name: str, rest: str) -> list[str]:
    if name not in get_commands():
        return [f"there is no command '{name}'"]
    parser = load_command_class(get_commands()[name], name).create_parser("manage.py", name)
    known = _options(parser)
    given = re.findall(r"(?<![\w-])(--[a-z][\w-]*)", rest)
    return [f"'{name}' has no option {one}" for one in given if one not in known]


def _options(parser: argparse.ArgumentParser) -> set[str]:
    """Return a parser's options, those of its own commands included."""
    found = set(parser._option_string_actions)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                found |= _options(below)
    return found
