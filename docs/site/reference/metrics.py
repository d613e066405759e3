"""The metrics of our own, as the code declares them."""

from pathlib import Path

KINDS = {"Counter": "counter", "Gauge": "gauge", "Histogram": "histogram"}
INTRODUCTION = """\
# Metrics
"""


def page(*, root: Path) -> str:
    return ""
