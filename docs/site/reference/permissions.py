"""Who may do what: an API key's scopes, the console's groups and their permissions."""

import pkgutil
from importlib import import_module

from django.apps import apps
from django.db.models import Model

from reliability.models import KeyScope

from .api import by_scope
from .tables import code, table

APPS = ("reliability", "scheduling")
INTRODUCTION = """\
# Permissions

## Scopes of API keys

A key has the scopes that it was made with; made without any, it has all. A key of one tenant reaches that tenant's
rows alone, whatever its scopes. A request without the scope is answered 403.

"""
GROUPS = """
## Groups of the console

A new installation has three groups, which may be changed freely; what a later version adds is granted to those that
kept their names. Superusers may do everything.

"""


def page() -> str:
    """Return the page: scopes with their calls, then groups with their permissions."""
    scopes = [(code(scope), "<br>".join(calls)) for scope, calls in by_scope(KeyScope.values)]
    granted = groups()
    names = list(granted)
    rows = [
        (title, code(permission), *("yes" if permission in granted[name] else "" for name in names))
        for permission, title in _titles().items()
        if any(permission in granted[name] for name in names)
    ]
    text = INTRODUCTION + table(("scope", "calls"), scopes) + GROUPS
    return text + table(("may", "permission", *(f"*{name}*" for name in names)), rows)


def groups() -> dict[str, set[str]]:
    """Return what the migrations grant, by group, as `application.permission`."""
    found: dict[str, set[str]] = {}
    for app in APPS:
        package = import_module(f"{app}.migrations")
        for module in pkgutil.iter_modules(package.__path__):
            granted = getattr(import_module(f"{app}.migrations.{module.name}"), "GROUPS", {})
            for name, permissions in granted.items():
                found.setdefault(name, set()).update(f"{app}.{one}" for one in permissions)
    return found


def _titles() -> dict[str, str]:
    """Return every permission with its words, in the order of the models."""
    found: dict[str, str] = {}
    for app in APPS:
        for model in apps.get_app_config(app).get_models():
            found.update({f"{app}.{name}": title for name, title in _of(model).items()})
    return found


def _of(model: type[Model]) -> dict[str, str]:
    meta = model._meta
    usual = {f"{verb}_{meta.model_name}": f"{verb} {meta.verbose_name_plural}" for verb in meta.default_permissions}
    return {**usual, **{name: str(title).lower() for name, title in meta.permissions}}
