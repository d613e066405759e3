"""Every command of the documents works: each page's are run in their order, against a running Backstop."""

import shutil
from dataclasses import replace
from pathlib import Path

from .blocks import ROOT, Block, blocks, pages
from .checks import schedule_lines
from .running import System
from .shell import Shell

NEEDED = ("bash", "curl", "openssl")
STAND_IN = "stand_in.py 5678"


def test_what_the_documents_say_works(subtests, tmp_path):
    missing = [program for program in NEEDED if shutil.which(program) is None]
    assert not missing, f"install {', '.join(missing)}: the documents' commands need them"
    system = System(tmp_path)
    try:
        system.start()
        for page in pages():
            with subtests.test(page=str(page.relative_to(ROOT))):
                run_page(system, page)
    finally:
        system.end()


def run_page(system: System, page: Path) -> None:
    """Run a page from its first block to its last; the next page finds everything as calm as this one did."""
    found = blocks(page)
    if any(STAND_IN in block.text for block in found):
        system.receiver.stop()  # the page starts something of its own at that address
    shell = Shell(system, system.directory / str(page.relative_to(ROOT)).replace("/", "-"))
    try:
        for block in found:
            run_block(system, shell, block)
    finally:
        shell.end()
        system.calm()


def run_block(system: System, shell: Shell, block: Block) -> None:
    match block.kind:
        case "shell" | "console":
            shell.run(block)
        case "http":
            shell.send(block)
        case "json" if '"path":' in block.text:
            system.run("import_workflows", "-", given=block.text)
        case "sql":
            system.execute(block.text)
        case "crontab":
            for _, command in schedule_lines(block.text):
                shell.run(replace(block, kind="shell", text=command))
