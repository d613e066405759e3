"""The documented import direction (docs/architecture.md), for every package; and the size of packages and files."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# From the bottom up, with what belongs there. A module imports its own level and those above it in this list.
# Packages that share a level import nothing of each other, but for the interfaces, the highest.
LEVELS: tuple[dict[str, str], ...] = (
    {"errors": "exceptions that an interface turns into an answer"},
    {"formats": "pure reading and writing of JSON, archive lines and counts in words"},
    {"policies": "pure decisions: values in, a verdict out"},
    {
        "models": "fields, constraints, querysets, one-row changes",
        "sql": "every SQL function and trigger",
        "checks": "system checks of the configuration",
    },
    {"core": "what every domain stands on: clock, audit log, lock waits, request context"},
    {"queue": "wake-ups, tasks and the worker; all that knows Procrastinate"},
    {"transport": "HTTP requests to other services; all that opens a socket"},
    {"lanes": "a lane, its lock, and what decides whether it may send"},
    {"delivery": "a delivery's way from acceptance to its end"},
    {"dead_letters": "dead letters and their archive"},
    {"n8n": "n8n's REST API and its reports", "stripe": "Stripe events"},
    {"bulk": "operations on many dead letters"},
    {"stats": "figures for the console, the status and the metrics"},
    {"alerts": "alerts and notices"},
    {"retention": "how long everything is kept", "setup": "keys, secrets, sign-ins, doctor"},
    {
        "api": "the HTTP API",
        "admin": "the console",
        "management": "commands",
        "metrics": "Prometheus metrics",
        "templatetags": "what templates call",
        "views": "health and readiness",
        "apps": "the start of the application",
    },
)
PLACES = {name: level for level, names in enumerate(LEVELS) for name in names}
INTERFACES = len(LEVELS) - 1
IMPURE = {"django", "psycopg", "requests", "socket", "time", "random", "secrets", "os", "threading", "procrastinate"}
# Django finds commands and migrations only in one flat folder each.
FLAT = {"reliability.management.commands", "reliability.migrations", "scheduling.migrations"}
LONGEST_FILE, LARGEST_PACKAGE = 400, 20


@cache
def modules() -> dict[str, Path]:
    """Return the file of each module, by its dotted name."""
    paths = [path for top in ("reliability", "scheduling", "config") for path in ROOT.glob(f"{top}/**/*.py")]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


@cache
def imports(name: str) -> frozenset[str]:
    """Return what a module imports, by dotted names: modules of the project, or whatever else is named."""
    path, found = modules()[name], set()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            inner = {f"{source}.{alias.name}" for alias in node.names}
            found |= {one for one in inner if one in modules()} or {source}
    return frozenset(found - {name})


def place(module: str) -> tuple[str, int] | None:
    """Return a module's package within `reliability`, and its level; `None` for all others."""
    parts = module.split(".")
    if parts[0] != "reliability" or len(parts) == 1 or parts[1] == "migrations":
        return None
    return parts[1], PLACES[parts[1]]


def where() -> str:
    return "\n".join(f"  {name}: {duty}" for names in LEVELS for name, duty in names.items())


def test_every_package_has_a_level():
    found = {name.split(".")[1] for name in modules() if name.startswith("reliability.")} - {"migrations"}
    assert found == set(PLACES), f"Give the package a level, and its duty in a line:\n{where()}"


@pytest.mark.parametrize("name", [name for name in modules() if name.startswith("reliability")])
def test_imports_point_down(name):
    own = place(name)
    for target in imports(name):
        assert not target.startswith("scheduling"), f"{name} imports {target}: reliability knows nothing of schedules."
        other = place(target)
        if own is None or other is None or own[0] == other[0] or own[1] == other[1] == INTERFACES:
            continue
        assert other[1] < own[1], (
            f"{name} imports {target}, which lies above it. Move what is shared down, or have the higher package "
            f"register a handler (as `reliability.queue.handlers`). Where a module belongs:\n{where()}"
        )


def test_no_modules_import_each_other_in_a_circle():
    left = {name: {one for one in imports(name) if one in modules()} for name in modules()}
    while free := [name for name, targets in left.items() if not targets]:
        for name in free:
            del left[name]
        for targets in left.values():
            targets.difference_update(free)
    assert not left, f"These modules import each other in a circle, or import one that does: {sorted(left)}"


def test_pure_packages_are_pure():
    pure = [name for name in modules() if name.startswith(("reliability.policies", "reliability.formats"))]
    assert pure
    for name in pure:
        assert not {one.partition(".")[0] for one in imports(name)} & IMPURE, name


@pytest.mark.parametrize(
    ("package", "libraries"),
    [("reliability.queue", ("procrastinate",)), ("reliability.transport", ("requests", "urllib3", "http.client"))],
)
def test_one_package_knows_the_library(package, libraries):
    knows = {name for name in modules() if any(one.startswith(libraries) for one in imports(name))}
    ours = {name for name in knows if name.startswith(("reliability", "scheduling"))}
    assert ours
    assert {name for name in ours if not name.startswith(package + ".")} == set()


def test_every_task_has_its_function():
    from reliability import queue

    tasks = queue.tasks
    wanted = {tasks.DISPATCH, tasks.OPERATE, tasks.LOOK_UP, tasks.RETRY_EXECUTION, tasks.NOTIFY, tasks.NOTICE_CHANNEL}
    assert set(queue.registered()) == wanted
    for task, path in queue.registered().items():
        assert callable(queue.handlers.handler(task=task)), path


def test_no_file_outgrows_its_subject():
    for path in [*modules().values(), *ROOT.glob("tests/**/*.py"), *ROOT.glob("bench/*.py")]:
        length = len(path.read_text().splitlines())
        assert length <= LONGEST_FILE, f"{path}: {length} lines. Move its second subject into a file of its own."


def test_no_package_outgrows_its_subject():
    packages = {path.parent for path in modules().values()} - {ROOT / name.replace(".", "/") for name in FLAT}
    for package in packages:
        count = len([path for path in package.glob("*.py") if path.name != "__init__.py"])
        assert count <= LARGEST_PACKAGE, f"{package}: {count} modules"


def test_every_package_says_what_it_is_for():
    for name, path in modules().items():
        if path.name == "__init__.py" and name.startswith("reliability.") and name not in FLAT:
            assert ast.get_docstring(ast.parse(path.read_text())), f"{name} has no docstring"
