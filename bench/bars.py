"""What must hold."""

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


@dataclass(frozen=True)
class Bar:
    """A run, and what its figures must reach: by name, the bar and whether it is a floor or a ceiling."""

    run: Callable[[], dict[str, Any]]
    what: str
    bars: dict[str, tuple[str, float]]


@dataclass(frozen=True)
class Line:
    """One line of the table."""

    what: str
    figure: str
    bar: str
    met: bool
    from_: str


BARS = {
    "light": Bar(runs.light, "light endpoint against bare ASGI", {"ratio": (">=", 0.9)}),
    "accepting": Bar(runs.accepting, "POST /api/v1/deliveries/ against a minimal view", {"ratio": (">=", 0.5)}),
    "slow-clients": Bar(
        slow_clients.slow_clients,
        "1,700 slow clients for a minute, twice: p99, ms; MB too much; left open",
        {
            "healthz": ("<=", 1000),
            "light": ("<=", 1000),
            "post": ("<=", 1000),
            "memory_over": ("<=", 0),
            "left": ("<=", 0),
        },
    ),
    "batches": Bar(runs.batches, "batches of 1,000: deliveries accepted a second", {"rate": (">=", 5000)}),
    "throughput": Bar(runs.throughput, "deliveries/s against 16 threads without a queue", {"ratio": (">=", 0.75)}),
    "stripe": Bar(
        incoming.stripe,
        "Stripe's events against a minimal view",
        {"ratio": (">=", 1.0), "repeats": (">=", 1.0), "ratio_full": (">=", 1.0), "repeats_full": (">=", 1.0)},
    ),
    "latency": Bar(runs.latency, "idle to received, ms", {"median": ("<=", 20), "p99": ("<=", 100)}),
    "isolation": Bar(
        isolation.isolation,
        "a fresh delivery while 300 execution retries hang: s to leave, MB of the worker",
        {"slowest": ("<=", 1.0), "memory": ("<=", 130)},
    ),
    "memory": Bar(runs.memory, "memory, MB", {"web": ("<=", 130), "worker": ("<=", 130)}),
    "idle": Bar(
        idle.idle,
        "idle: CPU %, most frequent query a second, MB",
        {"cpu": ("<=", 1.0), "often": ("<=", 1.0), "web": ("<=", 130), "worker": ("<=", 130)},
    ),
    "soak": Bar(idle.soak, "an hour's load in minutes: MB grown", {"web": ("<=", 4.0), "worker": ("<=", 4.0)}),
    "backlog": Bar(
        runs.backlog, "deliveries/s with 1,000,000 waiting elsewhere against without", {"ratio": (">=", 0.8)}
    ),
    "locked-lane": Bar(
        locked_lane.locked_lane,
        "accepted to received while another lane is locked, s",
        {"slowest": ("<=", 1.0)},
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
        {"slowest": ("<=", 300), "queries": ("<=", 15), "grown": ("<=", 10)},
    ),
    "database-stopped": Bar(
        database.database_stopped,
        "PostgreSQL stopped for 75 s: slowest answer, s, and return to normal",
        {"intake": ("<=", 6.0), "light": ("<=", 1.0), "back": ("<=", 5.0)},
    ),
    "metrics": Bar(
        metrics.metrics,
        "a scrape with 10,000,000 deliveries, 1,000,000 dead letters, ms",
        {"median": ("<=", 100)},
    ),
    "postmaster": Bar(
        up.postmaster,
        "embedded postmaster killed: seconds until ready, deliveries lost",
        {"slowest": ("<=", 15.0), "lost": ("<=", 0.0)},
    ),
}


def lines(name: str, found: dict[str, Any]) -> Iterable[Line]:
    """Hold a run's figures against its bars."""
    bar = BARS[name]
    for figure, (kind, wanted) in bar.bars.items():
        value = found[figure]
        met = value >= wanted if kind == ">=" else value <= wanted
        what = bar.what if len(bar.bars) == 1 else f"{bar.what} ({figure})"
        yield Line(what, f"{value:,.2f}", f"{kind} {wanted:,g}", met, _from(found))
    for page, taken in found.get("ms", {}).items():
        yield Line(
            f"  {page}, ms", f"{taken:,.0f}", "<= 300", taken <= 300, f"{found['queries_by_page'][page]} queries"
        )
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
