"""What is checked of a block that is not run, by its kind."""

import configparser
import json
import re
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime

import yaml
from cronsim import CronSim

from . import commands
from .blocks import ROOT, Block

SCHEDULE = re.compile(r"((?:\S+ +){5})(.+)")


def schedule_lines(text: str) -> list[tuple[str, str]]:
    """Return the schedules and commands of a crontab; its comments and variables are left out."""
    lines = [line for line in text.splitlines() if line.strip() and not re.match(r"#|[A-Z_]+=", line)]
    found = [SCHEDULE.fullmatch(line) for line in lines]
    assert all(found), text
    return [(one[1].strip(), one[2]) for one in found if one]


def shell(block: Block) -> None:
    """The shell can read it; what is not run names targets, files and commands that are there."""
    done = subprocess.run(["bash", "-n", "-c", block.text], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{block}: {done.stderr}"
    for one in commands.split(block.text):
        if not commands.is_run(one):
            _not_run(block, one)


def _not_run(block: Block, command: str) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    made = re.search(r"(?:^| )make ((?:[a-z0-9-]+ ?)+)", command.split("#", maxsplit=1)[0])
    for target in made[1].split() if made else []:
        assert target in targets, f"{block}: there is no 'make {target}'"
    for path in re.findall(r"(?<![\w./-])((?:ops|n8n|docs|bench)/[\w./-]+)", command):
        assert (ROOT / path).exists(), f"{block}: there is no {path}"


def console(block: Block) -> None:
    assert block.text.startswith("$ "), f"{block}: begins with no command"


def json_(block: Block) -> None:
    json.loads(block.text)


def yaml_(block: Block) -> None:
    """It parses; a schedule in it is one."""
    for document in yaml.safe_load_all(block.text):
        assert document, block
    for expression in re.findall(r'cron: "([^"]+)"', block.text):
        next(CronSim(expression, datetime.now(UTC)))


def python(block: Block) -> None:
    compile(block.text, str(block), "exec")


def crontab(block: Block) -> None:
    lines = schedule_lines(block.text)
    assert lines, block
    for expression, command in lines:
        next(CronSim(expression, datetime.now(UTC)))
        shell(Block(block.page, block.line, "shell", command))


def ini(block: Block) -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None, allow_no_value=True)
    parser.optionxform = str
    parser.read_string(block.text)
    assert parser.sections(), block


def nothing(block: Block) -> None:
    """A drawing, or what is shown for people alone."""


def http(block: Block) -> None:
    assert re.match(r"[A-Z]+ \S+", block.text), block


def usage(block: Block) -> None:
    """Its commands and options are held to what there is, as in every text."""
    assert "manage.py" in block.text, block


CHECKS: dict[str, Callable[[Block], None]] = {
    "shell": shell,
    "console": console,
    "json": json_,
    "yaml": yaml_,
    "python": python,
    "crontab": crontab,
    "ini": ini,
    "http": http,
    "usage": usage,
    "expression": nothing,
    "promql": nothing,
    "sql": nothing,
    "text": nothing,
    "other": nothing,
}
