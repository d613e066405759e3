"""One page's shell: its variables and folder live on from block to block."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

from . import commands
from .blocks import Block
from .placeholders import filled
from .running import System

PROMPT = "$ "
PATIENCE = 60.0  # seconds: a breaker's waits are among what pages show
# What shows how something stands may be looked at again until it does: nothing else is run twice.
IS_LOOK = re.compile(
    r"curl (?!.*(?: -d| --data| -X | -T | --json))|manage\.py (?:batches(?: show .*)?|flag)$|cat |tail "
)

# What says by its exit code how something stands: 1 is an answer, too.
SAYS_BY_CODE = re.compile(r"manage\.py doctor\b|.*--fail-on-firing\b")


class Shell:
    """Runs a page's blocks, in their order. Every process that a block leaves behind ends with the page."""

    def __init__(self, system: System, folder: Path) -> None:
        folder.mkdir()
        self.system, self.folder = system, folder
        self.state = folder / "state"
        self.groups: list[int] = []

    def run(self, block: Block) -> None:
        """Run a block's commands one by one; those of a `console` have to say what the page shows."""
        if block.kind == "console":
            for command, shown in dialogue(block.text):
                self._hold(block, command, shown)
            return
        for command in filter(commands.is_run, commands.split(block.text)):
            self._must(block, command)

    def send(self, block: Block) -> None:
        """Send each request of an `http` block; each has to be answered by a 2xx."""
        for method, path, body in requests_of(filled(block.text, system=self.system)):
            answer = self.system.call(method, path, body)
            assert answer.status_code < 300, f"{block}: {method} {path}: {answer.status_code} {answer.text}"

    def _hold(self, block: Block, command: str, shown: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            said = self._must(block, command)
            missing = [line for line in shown.splitlines() if not found_in(line, said)]
            if not missing:
                return
            is_over = time.monotonic() > deadline or not IS_LOOK.match(command)
            assert not is_over, f"{block}: {command}\n says: {said}\n, not: {missing}"
            time.sleep(0.2)

    def _must(self, block: Block, script: str) -> str:
        code, said, wrong = self._execute(filled(script, system=self.system))
        is_told = code == 1 and SAYS_BY_CODE.match(script)
        assert code == 0 or is_told, f"{block}: exit code {code}\n{script}\n{said}\n{wrong}"
        return said

    def _execute(self, script: str) -> tuple[int, str, str]:
        """Return exit code, standard output and standard error of a script."""
        assert "…" not in script, f"nobody can type this: {script}"
        before = f'test -e "{self.state}" && . "{self.state}"; set -euo pipefail -a'
        after = f'export -p > "{self.state}"; echo "cd \\"$PWD\\"" >> "{self.state}"'
        out, wrong = self.folder / "out", self.folder / "wrong"
        with out.open("wb") as said, wrong.open("wb") as complained:
            process = subprocess.Popen(
                ["bash", "-c", f"{before}\n{script}\n{after}"],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=complained,
                cwd=self.system.folder,
                env=self.system.variables(),
                start_new_session=True,
            )
            self.groups.append(process.pid)
            code = process.wait(timeout=120)
        return code, out.read_text(), wrong.read_text()

    def end(self) -> None:
        for group in self.groups:
            try:
                os.killpg(group, signal.SIGKILL)
            except ProcessLookupError:
                continue


def dialogue(text: str) -> list[tuple[str, str]]:
    """Return a `console` block's commands, each with what the page shows after it."""
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        if line.startswith(PROMPT):
            found.append((line.removeprefix(PROMPT), ""))
        elif found and not found[-1][1] and not commands.is_whole(found[-1][0] + "\n"):
            found[-1] = (f"{found[-1][0]}\n{line}", "")
        else:
            assert found, f"output before a command: {line}"
            found[-1] = (found[-1][0], found[-1][1] + line + "\n")
    return found


def found_in(line: str, said: str) -> bool:
    """Say whether a shown line is among what was said: ids, numbers and times may differ, `…` stands for anything."""
    pattern = r"\s*".join(_shape(word) for word in line.split())
    return re.search(pattern, said) is not None


def _shape(word: str) -> str:
    word = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "IIDD", word)
    word = re.sub(r"\d[\d.:,TZ-]*\d|\d", "00NN", word)
    word = re.escape(word).replace("…", r"[\s\S]*?").replace("IIDD", r"[0-9a-f-]{36}")
    return word.replace("00NN", r"\d[\d.:,TZ-]*")


def requests_of(text: str) -> list[tuple[str, str, object]]:
    """Return method, path and body (parsed; `None` without one) of an `http` block's requests."""
    parts = re.split(r"^(GET|HEAD|POST|PUT|PATCH|DELETE) +(\S+)", text, flags=re.MULTILINE)[1:]
    found = []
    for method, path, body in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        told = re.search(r"\{.*\}", body, flags=re.DOTALL)
        found.append((method, path, json.loads(told[0]) if told else None))
    return found
