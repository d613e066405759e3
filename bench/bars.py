"""The bars of the benchmarks: what each run's figures must reach."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from . import (
    cleanup,
    console,
    database,
    idle,
    incoming,
    isolation,
    kill_storm,
    locked_lane,
    metrics,
    runs,
    slow_clients,
    up,
)

# The units of figures that depend on the machine's speed, and what one of them is in units of the yardstick, given how
# many milliseconds that takes: a time in it, or a rate, as how many happen in its time.
SPEEDS: dict[str, Callable[[float], float]] = {
    "ms": lambda yardstick: 1 / yardstick,
    "s": lambda yardstick: 1000 / yardstick,
    "per second": lambda yardstick: yardstick / 1000,
    "% of a CPU": lambda yardstick: 1 / yardstick,
}


@dataclass(frozen=True)
class Bar:
    """A run, and what its figures must reach: by name, whether the bar is a floor or a ceiling, and the bar.

    The bar of a time or a rate is in units of the yardstick of the same run (`yardstick`), so that it holds on a slower
    machine too; `speed` names the figure's own unit. Sizes, counts and ratios are compared as they are.
    """

    run: Callable[[], dict[str, Any]]
    what: str
    bars: dict[str, tuple[str, float]]
    speed: str = ""


@dataclass(frozen=True)
class Line:
    """One line of the table."""

    what: str
    figure: str
    bar: str
    met: bool
    from_: str


# Figures that are sizes, counts or ratios, also in runs with a `speed`.
MACHINE_INDEPENDENT = {
    *("memory", "memory_over", "web", "worker", "grown"),  # MB
    *("left", "queries", "lost", "often"),  # counts; `often` depends on configured intervals alone
    "intake_of_limit",
}
# The bar of a page of the console, in units.
PAGE = 120
BARS = {
    "light": Bar(runs.light, "light endpoint against bare ASGI", {"ratio": (">=", 0.9)}),
    "accepting": Bar(runs.accepting, "POST /api/v1/deliveries/ against a minimal view", {"ratio": (">=", 0.5)}),
    "slow-clients": Bar(
        slow_clients.slow_clients,
        "1,700 slow clients for a minute, twice: p99; MB too much; left open",
        {
            "healthz": ("<=", 400),
            "light": ("<=", 400),
            "post": ("<=", 400),
            "memory_over": ("<=", 0),
            "left": ("<=", 0),
        },
        speed="ms",
    ),
    "batches": Bar(
        runs.batches, "batches of 1,000: deliveries accepted per unit", {"rate": (">=", 12.5)}, speed="per second"
    ),
    "throughput": Bar(runs.throughput, "deliveries/s against 16 threads without a queue", {"ratio": (">=", 0.75)}),
    "stripe": Bar(
        incoming.stripe,
        "Stripe's events against a minimal view",
        {"ratio": (">=", 1.0), "repeats": (">=", 1.0), "ratio_full": (">=", 1.0), "repeats_full": (">=", 1.0)},
    ),
    "latency": Bar(runs.latency, "idle to received", {"median": ("<=", 8), "p99": ("<=", 40)}, speed="ms"),
    "isolation": Bar(
        isolation.isolation,
        "a fresh delivery while 300 execution retries hang: time to leave, MB of the worker",
        {"slowest": ("<=", 400), "memory": ("<=", 130)},
        speed="s",
    ),
    "memory": Bar(runs.memory, "memory, MB", {"web": ("<=", 130), "worker": ("<=", 130)}),
    "idle": Bar(
        idle.idle,
        "idle: CPU, most frequent query per second, MB",
        {"cpu": ("<=", 0.4), "often": ("<=", 1.0), "web": ("<=", 130), "worker": ("<=", 130)},
        speed="% of a CPU",
    ),
    "soak": Bar(idle.soak, "an hour's load in minutes: MB grown", {"web": ("<=", 4.0), "worker": ("<=", 4.0)}),
    "backlog": Bar(
        runs.backlog, "deliveries/s with 1,000,000 waiting elsewhere against without", {"ratio": (">=", 0.8)}
    ),
    "locked-lane": Bar(
        locked_lane.locked_lane,
        "accepted to received while another lane is locked",
        {"slowest": ("<=", 400)},
        speed="s",
    ),
    "kill-storm": Bar(
        kill_storm.kill_storm,
        "100 kills of web and workers during 5,000 deliveries",
        {"lost": ("<=", 0), "over_limit": ("<=", 0), "unfinished": ("<=", 0), "kills": (">=", 100)},
    ),
    "cleanup": Bar(
        cleanup.cleanup, "p99 of intake while 1,000,000 expired rows go, against quiet", {"ratio": ("<=", 2.0)}
    ),
    "console": Bar(
        console.console,
        "the console with 1,000,000 dead letters, 5,000,000 attempts",
        {"slowest": ("<=", PAGE), "queries": ("<=", 15), "grown": ("<=", 10)},
        speed="ms",
    ),
    "database-stopped": Bar(
        database.database_stopped,
        "PostgreSQL stopped for 75 s: slowest answer against intake's limit; light answers and return to normal",
        {"intake_of_limit": ("<=", 1.5), "light": ("<=", 400), "back": ("<=", 2000)},
        speed="s",
    ),
    "metrics": Bar(
        metrics.metrics,
        "a scrape with 10,000,000 deliveries, 1,000,000 dead letters",
        {"median": ("<=", 40)},
        speed="ms",
    ),
    "postmaster": Bar(
        up.postmaster,
        "embedded postmaster killed: time until ready, deliveries lost",
        {"slowest": ("<=", 6000), "lost": ("<=", 0.0)},
        speed="s",
    ),
}


def lines(name: str, found: dict[str, Any], *, yardstick: float) -> Iterable[Line]:
    """Compare a run's figures with its bars; `yardstick` is its unit in milliseconds."""
    bar = BARS[name]
    per = SPEEDS[bar.speed](yardstick) if bar.speed else 1.0
    for figure, (kind, wanted) in bar.bars.items():
        is_speed = bool(bar.speed) and figure not in MACHINE_INDEPENDENT
        value = found[figure] * (per if is_speed else 1.0)
        met = value >= wanted if kind == ">=" else value <= wanted
        what = bar.what if len(bar.bars) == 1 else f"{bar.what} ({figure})"
        source = f"{found[figure]:,.2f} {bar.speed}, unit {yardstick:.2f} ms" if is_speed else _from(found)
        yield Line(what, f"{value:,.2f}", f"{kind} {wanted:,g}{' units' if is_speed else ''}", met, source)
    for page, taken in found.get("ms", {}).items():
        value = taken * per
        source = f"{taken:,.0f} ms, {found['queries_by_page'][page]} queries"
        yield Line(f"  {page}", f"{value:,.0f}", f"<= {PAGE} units", value <= PAGE, source)
    if "plan" in found:
        plan = found["plan"]
        met = not plan["sequential_scans"] and plan["most_rows_read"] <= 100
        rows, indexes = f"{plan['most_rows_read']:.0f}", ", ".join(plan["indexes"])
        yield Line("rows that a claim reads", rows, "<= 100, by index", met, indexes)


def _from(found: dict[str, Any]) -> str:
    if "ours" not in found:
        return ""
    ours, theirs = ("/".join(f"{one:,.0f}" for one in found[side]) for side in ("ours", "theirs"))
    return f"{ours} to {theirs} {found['unit']}"
