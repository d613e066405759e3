"""Chromium as people use it: signed in as a role, at a size, in a scheme; and what it complains about."""

import os
import shutil
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.apps import apps
from django.contrib.auth.models import Group, User
from django.db import connection

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / ".cache" / "pictures"
SIZES = {"desktop": (1280, 800), "phone": (390, 844)}
SCHEMES = ("light", "dark")
PASSWORD = "a-password-1"
GRAVE = ("serious", "critical")
# Unfold's own parts that we cannot mend without copying whole templates, each with its reason.
TOLERATED: dict[str, str] = {}
_LISTEN = """
window.addEventListener("securitypolicyviolation", (event) =>
  console.error(`CSP: ${event.violatedDirective} refused ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`));
"""


def launch(playwright):
    """Start Chromium; fail where there is none."""
    found = shutil.which("chromium")
    if found is None:
        pytest.fail("Chromium is needed: install Debian's package chromium.")
    return playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])


@pytest.fixture(scope="session")
def chromium(django_db_setup):
    # The browser's driver keeps a loop in this thread, where Django would otherwise refuse its ORM.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@dataclass
class Console:
    """A page of someone signed in. `complaints` are errors of scripts and what the policy refused."""

    page: object
    url: str
    size: str
    scheme: str
    complaints: list[str] = field(default_factory=list)

    def go(self, path: str):
        """Open a path of the console, and let its scripts finish."""
        answer = self.page.goto(f"{self.url}{path}", wait_until="load")
        self.page.wait_for_function("!document.documentElement.hasAttribute('x-cloak')")
        return answer

    def picture(self, name: str, *, full: bool = False) -> None:
        PICTURES.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=PICTURES / f"{name}-{self.size}-{self.scheme}.png", full_page=full)

    @property
    def fits(self) -> bool:
        """Whether nothing makes the page scroll sideways."""
        return self.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def axe(page) -> list[str]:
    """Return what axe-core finds serious or critical: the rule, and where."""
    # What fades in has no final colours yet.
    page.evaluate("Promise.all(document.getAnimations().map((one) => one.finished.catch(() => null)))")
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{one['id']}: {node['target']} {node['html'][:160]}"
        for one in found
        if one["impact"] in GRAVE and one["id"] not in TOLERATED
        for node in one["nodes"]
    ]


def person(role: str) -> User:
    """Return a superuser, or a member of the group of that name."""
    user, made = User.objects.get_or_create(username=role, defaults={"is_staff": True})
    if made:
        user.is_superuser = role == "superuser"
        user.set_password(PASSWORD)
        user.save()
        if not user.is_superuser:
            user.groups.add(group(f"{role}s"))
    return user


def group(name: str) -> Group:
    """Return a group as the migrations make it: other tests empty the tables."""
    if not Group.objects.filter(name=name).exists():
        editor = SimpleNamespace(connection=connection)
        for module in ("reliability.migrations.0005_groups", "scheduling.migrations.0003_groups"):
            import_module(module).grant(apps, editor)
    return Group.objects.get(name=name)


@pytest.fixture
def console(chromium, live_server, transactional_db):
    """Return a function that signs a role in and opens the console at a size and in a scheme."""
    contexts = []

    def start(role: str = "operator", size: str = "desktop", scheme: str = "light") -> Console:
        person(role)
        width, height = SIZES[size]
        context = chromium.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        context.set_default_timeout(15_000)
        contexts.append(context)
        page = context.new_page()
        page.add_init_script(_LISTEN)
        made = Console(page, live_server.url, size, scheme)
        page.on(
            "console", lambda said: made.complaints.append(said.text) if said.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: made.complaints.append(str(error)))
        page.goto(f"{live_server.url}/")
        page.fill("[name=username]", role)
        page.fill("[name=password]", PASSWORD)
        page.click("[type=submit]")
        page.wait_for_url("**/admin/")
        return made

    yield start
    for context in contexts:
        context.close()
