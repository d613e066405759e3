"""The site builds strictly and asks nothing of others; its reference is what the code says; links lead somewhere."""

import os
import pkgutil
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.db.migrations import RunPython

from .blocks import GENERATED, ROOT, anchors, inline_code, links, pages

SITE = ROOT / "docs" / "site"
EVERY = [*pages(), *sorted(GENERATED.glob("*.md")), ROOT / "CHANGELOG.md"]


def run(*command: str) -> "subprocess.CompletedProcess[str]":
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Build the site; return where it lies."""
    target = tmp_path_factory.mktemp("site")
    done = run(
        sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-f", str(SITE / "mkdocs.yml"), "-d", str(target)
    )
    assert done.returncode == 0, done.stderr
    return target


def test_the_site_loads_nothing_from_elsewhere(site):
    found = sorted(site.rglob("*.html"))
    assert len(found) > 20
    for page in found:
        text = page.read_text()
        loaded = re.findall(r'<(?:script|img|iframe|source)\b[^>]*?(?:src|srcset)="([^"]+)"', text)
        loaded += re.findall(r'<link\b[^>]*?rel="(?:stylesheet|preload|icon|preconnect)"[^>]*?href="([^"]+)"', text)
        loaded += re.findall(r'<link\b[^>]*?href="([^"]+)"[^>]*?rel="(?:stylesheet|preload|icon|preconnect)"', text)
        assert loaded
        assert not [one for one in loaded if re.match(r"(?:https?:)?//", one)], page
        assert not [one for one in loaded if one[0] != "/" and not (page.parent / one.split("?")[0]).exists()], page


def test_the_search_needs_nobody_else(site):
    index = (site / "search" / "search_index.json").read_text()
    assert "replay" in index
    assert "stripe_reconcile" in index


def test_lists_and_tables_are_seen_as_such(site):
    """GitHub begins a list or a table where the site's Markdown wants an empty line before it."""
    for page in site.rglob("*.html"):
        outside = re.sub(r"<pre\b.*?</pre>", "", page.read_text(), flags=re.DOTALL)
        assert not re.findall(r"^(?:<p>)?(?:\d\.|[-*|]) .*", outside, re.MULTILINE), page.name


def test_pictures_are_where_pages_look_for_them(site):
    for page in site.rglob("*.html"):
        for one in re.findall(r'(?:src|srcset)="([^"]+\.(?:png|svg))"', page.read_text()):
            assert (page.parent / one).exists(), (page.name, one)


def test_the_reference_is_what_the_code_says():
    done = run(sys.executable, str(SITE / "generate.py"), "--check")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", EVERY, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in links(page):
        path, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            assert "example" not in link, link
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{page.name}: {link}"


def rows() -> dict[str, tuple[str, str]]:
    """Return default and meaning of each variable, by the reference that is made from the code."""
    text = (GENERATED / "settings.md").read_text()
    cells = [re.split(r"(?<!\\) \| ", line.strip("| ")) for line in text.splitlines() if line.startswith("| `")]
    return {
        one[0].strip("`"): (one[2].strip("` ") if len(one) > 2 else "", one[3] if len(one) > 3 else "") for one in cells
    }


def test_every_setting_is_described():
    assert not [name for name, (_, meaning) in rows().items() if not meaning]


def test_every_described_setting_is_read():
    """A row for what the code does not read would be stale."""
    code = "".join(
        path.read_text() for room in ("config", "reliability", "scheduling") for path in (ROOT / room).rglob("*.py")
    )
    names = {name for name in rows() if "<" not in name and not name.startswith("OTEL_")}
    assert not [name for name in names if f'"{name}"' not in code]


def test_defaults_that_a_page_tells_are_those_of_the_code():
    from_code, told = rows(), []
    for page in pages():
        told += re.findall(r"`([A-Z][A-Z0-9_]+)` \((\d[\d.]*)\)", page.read_text())
    assert len(told) > 3
    assert [(name, from_code[name][0]) for name, _ in told] == told


def test_settings_that_a_page_names_exist():
    known = set(rows())
    for page in pages():
        for line, text in inline_code(page):
            for name in re.findall(r"\b(?:N8N|STRIPE|CRON|SECRET|SESSION|METRICS|ALERT)_[A-Z_]+\b(?!<)", text):
                is_known = name in known or name.rstrip("_") + "_<SLUG>" in known
                assert is_known or name.startswith("N8N_AUTH"), f"{page.name}:{line}: {name}"


def test_calls_that_a_page_names_exist():
    reference = (GENERATED / "api.md").read_text()
    known = {(method, shape(path)) for method, path in re.findall(r"^### `([A-Z]+) (\S+)`", reference, re.MULTILINE)}
    for page in pages():
        for line, text in inline_code(page):
            for method, path in re.findall(r"\b(GET|POST|DELETE) (/api/v1/[^\s`?]*)", text):
                assert "…" in path or (method, shape(path)) in known, f"{page.name}:{line}: {method} {path}"


def shape(path: str) -> str:
    return re.sub(r"<[^>]+>|\{[^}]+\}", "*", path)


def granted_anew() -> dict[str, set[str]]:
    """Let the migrations make the groups, whatever a test that committed has left of them; return what each may do."""
    Group.objects.all().delete()
    ContentType.objects.clear_cache()
    for app in ("reliability", "scheduling"):
        package = import_module(f"{app}.migrations")
        for one in sorted(module.name for module in pkgutil.iter_modules(package.__path__)):
            migration = import_module(f"{app}.migrations.{one}")
            if hasattr(migration, "GROUPS"):
                (step,) = [one for one in migration.Migration.operations if isinstance(one, RunPython)]
                step.code(apps, connection.schema_editor())
    every = Permission.objects.select_related("content_type")
    return {
        group.name: {f"{one.content_type.app_label}.{one.codename}" for one in every.filter(group=group)}
        for group in Group.objects.all()
    }


def test_groups_are_those_that_the_migrations_make(db):
    granted = granted_anew()
    text = (GENERATED / "permissions.md").read_text()
    heads = re.findall(r"\*(\w+)\*", re.search(r"^\| may .*$", text, re.MULTILINE)[0])
    lines = [
        [cell.strip() for cell in line.split("|")] for line in text.splitlines() if re.match(r"\| .* \| `\w+\.", line)
    ]
    assert set(heads) == set(granted)
    for at, name in enumerate(heads):
        assert {line[2].strip("`") for line in lines if line[3 + at] == "yes"} == granted[name], name


def test_the_pages_for_people_are_written_by_people():
    assert Path(GENERATED) not in {page.parent for page in pages()}
