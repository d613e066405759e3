#!/usr/bin/env python3
"""Runs Backstop's management commands: `./manage.py COMMAND`, once `make run` has installed what they need."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

VENV_PYTHON = Path(__file__).resolve().parent / ".venv" / "bin" / "python"


def main() -> None:
    use_virtual_environment()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    if sys.argv[1:2] not in (["up"], ["web"]):
        os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)  # of web processes, which are scraped
    elif counts := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        Path(counts).mkdir(parents=True, exist_ok=True)  # counters are made as soon as modules are loaded
    if sys.argv[1:2] == ["up"] and "--help" not in sys.argv:
        # Loading the settings starts the embedded database, which takes some seconds the first time.
        database = "connecting to DATABASE_URL" if os.environ.get("DATABASE_URL") else "starting the database"
        print(f"Starting Backstop: {database} …", flush=True)  # noqa: T201  # before Django has an output
    from django.core.management import call_command, execute_from_command_line

    if sys.argv[1:3] == ["procrastinate", "worker"]:
        # The engine's own command runs no checks, and a worker must not start with an invalid setting.
        import django

        django.setup()
        call_command("check", tags=["configuration"])
    from config.embedded import StartError

    try:
        execute_from_command_line(sys.argv)
    except StartError as error:
        sys.exit(str(error))


def use_virtual_environment() -> None:
    """Continue with the Python of `.venv` where this one has no Django: `make run` installs Django only there."""
    if find_spec("django") is None and VENV_PYTHON.exists() and Path(sys.executable) != VENV_PYTHON:
        os.execv(VENV_PYTHON, [str(VENV_PYTHON), *sys.argv])  # noqa: S606  # our own command


if __name__ == "__main__":
    main()
