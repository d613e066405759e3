"""`./manage.py` runs as it is, and finds the Python into which `make run` has installed everything."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = '#!/bin/sh\necho "virtual environment: $*"\n'


@pytest.fixture
def folder(tmp_path):
    """A copy of manage.py, with a Python in `.venv` that only says how it was called."""
    (tmp_path / "manage.py").write_bytes((ROOT / "manage.py").read_bytes())
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(SCRIPT)
    python.chmod(0o755)
    return tmp_path


def test_it_is_executable():
    assert os.access(ROOT / "manage.py", os.X_OK)
    assert (ROOT / "manage.py").read_text().startswith("#!/usr/bin/env python3\n")


def test_a_python_without_django_continues_in_the_virtual_environment(folder):
    # -S leaves out site-packages, and with them Django.
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(folder / "manage.py"), "doctor", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"virtual environment: {folder / 'manage.py'} doctor --json\n"


def test_without_a_virtual_environment_it_fails_and_does_not_start_itself_again(folder):
    (folder / ".venv" / "bin" / "python").unlink()
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(folder / "manage.py"), "help"], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "No module named 'django'" in done.stderr
