"""`python -m bench [name …]`: run the benchmarks, print one table, write `bench/results/latest.json`.

The file keeps each run's latest figures, with when they were taken.
"""

import json
import platform
import sys
from datetime import UTC, datetime
from typing import Any

from . import ground

RESULT = ground.ROOT / "bench" / "results" / "latest.json"


def main(wanted: list[str]) -> int:
    ground.prepare()
    from . import yardstick
    from .bars import BARS, lines
    from .table import show

    names = wanted or list(BARS)
    if unknown := set(names) - set(BARS):
        print(f"There is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BARS)}.", file=sys.stderr)
        return 2
    table = []
    for name in names:
        print(f"{name} …", file=sys.stderr, flush=True)
        # Before each run, since the machine's other load changes from one run to the next.
        unit = yardstick.unit()
        found = BARS[name].run()
        table += (own := list(lines(name, found, yardstick=unit)))
        keep(name, {**found, "yardstick_ms": unit}, met=all(line.met for line in own))
    show(table)
    return 0 if all(line.met for line in table) else 1


def keep(name: str, found: dict[str, Any], *, met: bool) -> None:
    """Put a run's figures into the file, with when they were taken; those of other runs stay."""
    try:
        kept = json.loads(RESULT.read_text())["runs"]
    except (FileNotFoundError, KeyError):
        kept = {}
    about = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "python": platform.python_version(), "met": met}
    runs = {**kept, name: {**about, "figures": found}}
    document = {"met": all(one["met"] for one in runs.values()), "runs": runs}
    RESULT.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
