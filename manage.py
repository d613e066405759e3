#!/usr/bin/env python
"""Runs Backstop's management commands."""

import os
import sys
from pathlib import Path


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    if sys.argv[1:2] not in (["up"], ["web"]):
        os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)  # of web processes, which are scraped
    elif counts := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        Path(counts).mkdir(parents=True, exist_ok=True)  # counters are made as soon as modules are loaded
    from django.core.management import call_command, execute_from_command_line

    if sys.argv[1:3] == ["procrastinate", "worker"]:
        # The engine's own command runs no checks, and a worker must not start on a senseless setting.
        import django

        django.setup()
        call_command("check", tags=["configuration"])
    from config.embedded import StartError

    try:
        execute_from_command_line(sys.argv)
    except StartError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
