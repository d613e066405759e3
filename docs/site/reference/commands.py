"""Every management command of our own, from its parser."""

import argparse
from collections.abc import Iterator

from django.core.management import get_commands, load_command_class
from django.core.management.base import BaseCommand

from .tables import any_of, code, table

APPS = ("reliability", "scheduling")
INTRODUCTION = """\
# Commands

`manage.py NAME --help` says the same. In an installation by `make run` the whole call is `.venv/bin/python manage.py
NAME`. A command ends with 0 only where all of it was done; what went wrong is on standard error. `--reason` is kept
in the audit log, with `command:` and the user's name. Django's own options (`--verbosity`, `--settings`, …) are left
out here.

`manage.py procrastinate worker` still runs a worker, whose kinds of work share one loop. `migrate`, `collectstatic`,
`check`, `createsuperuser` and `changepassword` are Django's, `axes_reset` unlocks signing in.

"""


def page() -> str:
    """Return the page: a list, then each command with its arguments."""
    # `migrate` is Django's with a check before it: its arguments are in Django's documentation.
    found = sorted(name for name, app in get_commands().items() if app in APPS and name != "migrate")
    loaded = {name: load_command_class(get_commands()[name], name) for name in found}
    heads = table(("command", "does"), [(f"[{code(name)}](#{name})", _help(one)) for name, one in loaded.items()])
    return INTRODUCTION + heads + "\n" + "\n".join(_section(name, one) for name, one in loaded.items())


def _help(command: BaseCommand) -> str:
    return " ".join(str(command.help).split())


def _section(name: str, command: BaseCommand) -> str:
    own = [*_own(name, command)]
    text = f"## {name} {{#{name}}}\n\n{_help(command)}\n\n    {_usage(name, own)}\n"
    rows = [(code(_called(one)), _meaning(one)) for one in own]
    return text + ("\n" + table(("argument", ""), rows) if rows else "")


def _own(name: str, command: BaseCommand) -> Iterator[argparse.Action]:
    """Yield the arguments that Django's own commands do not all have."""
    common = {dest.dest for dest in BaseCommand().create_parser("manage.py", name)._actions}
    for action in command.create_parser("manage.py", name)._actions:
        if action.dest not in common and action.help != argparse.SUPPRESS:
            yield action


def _usage(name: str, own: list[argparse.Action]) -> str:
    words = ["manage.py", name]
    for one in sorted(own, key=lambda one: bool(one.option_strings)):
        word = _called(one)
        words.append(word if _must(one) else f"[{word}]")
    return " ".join(words)


def _must(one: argparse.Action) -> bool:
    return one.required if one.option_strings else one.nargs not in ("?", "*")


def _called(one: argparse.Action) -> str:
    value = _value(one)
    return " ".join(filter(None, [one.option_strings[-1] if one.option_strings else "", value]))


def _value(one: argparse.Action) -> str:
    if one.nargs == 0:
        return ""
    named = str(one.metavar or (one.dest.upper().replace("_", "-")))
    return f"{named} …" if one.nargs in ("+", "*") or isinstance(one, argparse._AppendAction) else named


def _meaning(one: argparse.Action) -> str:
    text = str(one.help or "").replace("%(default)s", str(one.default))
    choices = [str(choice) for choice in one.choices or () if choice != ""]
    listed = f"one of {any_of(choices)}" if choices else ""
    default = ""
    plain = one.default not in (None, "", False, argparse.SUPPRESS) and not isinstance(one.default, list)
    if plain and one.nargs != 0 and one.required is False and "default:" not in text:
        default = f"default: {code(str(one.default))}"
    return "; ".join(filter(None, [text, listed, default]))
