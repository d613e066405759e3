"""Writes docs/reference/ from the code (`make docs`); with --check, says what is stale and writes nothing.

Nothing here asks a database: settings are recorded while they are read, and all else is in classes and files.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "docs" / "reference"
NOTE = "<!-- Written from the code by docs/site/generate.py: edit there, then `make docs`. -->\n\n"


def main() -> int:
    """Return 1 where a page was stale and --check was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = 0
    wanted = {name: NOTE + text for name, text in written().items()}
    for path in TARGET.glob("*.md"):
        if path.stem not in wanted:
            stale += 1
            _say(f"{path.relative_to(ROOT)} is about nothing that is there")
            if not check:
                path.unlink()
    for name, text in wanted.items():
        path = TARGET / f"{name}.md"
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale += 1
        _say(f"{path.relative_to(ROOT)} {'is stale: make docs' if check else 'written'}")
        if not check:
            TARGET.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return int(check and stale > 0)


def written() -> dict[str, str]:
    """Return every page's text by its name. A page about what is not there (yet) is left out."""
    pages: dict[str, Callable[[], str]] = _prepared()
    return {name: text for name, make in pages.items() if (text := make())}


def _prepared() -> dict[str, Callable[[], str]]:
    """Load the settings under a recorder, and then all that needs them."""
    sys.path.insert(0, str(ROOT))
    from reference import settings

    # What the page says may depend on no environment; the address is never connected to.
    os.environ["DATABASE_URL"] = "postgresql://nobody@127.0.0.1:9/none"
    os.environ["SECRET_KEY"] = "not a secret: nothing is signed here"  # noqa: S105  # as it says
    os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
    variables = settings.record()
    import django

    django.setup()
    from reference import alerts, api, commands, errors, metrics, permissions

    return {
        "settings": lambda: settings.page(variables=variables, root=ROOT),
        "api": api.page,
        "commands": commands.page,
        "metrics": metrics.page,
        "alerts": lambda: alerts.page(root=ROOT),
        "permissions": permissions.page,
        "errors": errors.page,
    }


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
