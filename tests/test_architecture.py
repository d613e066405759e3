"""Imports point one way; policies are pure; one module opens sockets, one package knows the engine."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# From the outside in: a room may import its own level and those behind it.
LEVELS = {
    "scheduling": 15,
    "reliability.api": 14,
    "reliability.admin": 14,
    "reliability.templatetags": 14,
    "reliability.views": 14,
    "reliability.api.stripe.webhook": 14,
    "reliability.management": 14,
    "reliability.metrics": 14,
    "reliability.apps": 14,
    "reliability.setup": 6,
    "reliability.retention": 6,
    "reliability.stats": 6,
    "reliability.alerts": 6,
    "reliability.bulk": 6,
    "reliability.n8n": 6,
    "reliability.stripe": 6,
    "reliability.dead_letters": 6,
    "reliability.delivery": 6,
    "reliability.lanes": 6,
    "reliability.transport": 6,
    "reliability.queue": 6,
    "reliability.core": 6,
    "reliability.checks": 5,
    "reliability.migrations": 4,
    "reliability.models": 3,
    "reliability.policies": 2,
    "reliability.formats": 1,
    "reliability.errors": 0,
}
IMPURE = {
    "django",
    "psycopg",
    "requests",
    "socket",
    "time",
    "random",
    "secrets",
    "os",
    "threading",
    "procrastinate",
}


def modules() -> list[tuple[str, Path]]:
    paths = [*ROOT.glob("reliability/**/*.py"), *ROOT.glob("scheduling/**/*.py")]
    return [(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path) for path in paths]


def imports(name: str, path: Path) -> set[str]:
    found = set()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            found |= {source} | {f"{source}.{alias.name}" for alias in node.names}
    return found


def level(module: str) -> int | None:
    rooms = [room for room in LEVELS if module == room or module.startswith(room + ".")]
    return LEVELS[max(rooms, key=len)] if rooms else None


@pytest.mark.parametrize(("name", "path"), modules(), ids=lambda value: value if isinstance(value, str) else "")
def test_imports_point_one_way(name, path):
    own = level(name)
    if own is None:
        assert name == "reliability"
        return
    for target in imports(name, path):
        other = level(target)
        assert other is None or other <= own, f"{name} imports {target}"
        if name.startswith("reliability"):
            assert not target.startswith("scheduling"), f"{name} imports {target}"


def test_policies_are_pure():
    for name, path in modules():
        if name.startswith(("reliability.policies", "reliability.formats")):
            assert not {one.partition(".")[0] for one in imports(name, path)} & IMPURE, name


def test_one_package_knows_the_engine_and_one_module_opens_sockets():
    knows = {name for name, path in modules() if any(i.startswith("procrastinate") for i in imports(name, path))}
    assert {name for name in knows if not name.startswith("reliability.queue.")} == set()
    sends = {
        name for name, path in modules() if any(i.startswith(("requests", "http.client")) for i in imports(name, path))
    }
    assert sends and {name for name in sends if not name.startswith("reliability.transport.")} == set()


def test_no_file_outgrows_its_subject():
    """Tests too: a second subject moves out before it grows."""
    folders = ("bench", "config", "docs", "reliability", "scheduling", "tests")
    paths = [path for folder in folders for path in ROOT.glob(f"{folder}/**/*.py")]
    assert Path(__file__) in paths
    assert {str(path.relative_to(ROOT)) for path in paths if len(path.read_text().splitlines()) > 400} == set()
