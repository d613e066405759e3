"""`python -m bench [name …]`: run the benchmarks, print one table, write `bench/results/latest.json`."""

import json
import platform
import sys
from datetime import UTC, datetime

from . import ground

RESULT = ground.ROOT / "bench" / "results" / "latest.json"


def main(wanted: list[str]) -> int:
    ground.prepare()
    from .bars import BARS, lines
    from .table import show

    names = wanted or list(BARS)
    if unknown := set(names) - set(BARS):
        print(f"There is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BARS)}.", file=sys.stderr)
        return 2
    found = {}
    for name in names:
        print(f"{name} …", file=sys.stderr, flush=True)
        found[name] = BARS[name].run()
    table = [line for name in names for line in lines(name, found[name])]
    show(table)
    if not wanted:
        about = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "python": platform.python_version()}
        document = {**about, "met": all(line.met for line in table), "figures": found}
        RESULT.write_text(json.dumps(document, indent=2) + "\n")
    return 0 if all(line.met for line in table) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
