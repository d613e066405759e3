"""The registration of Django's admin, without what only a web process needs."""

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.contrib import admin
from django.contrib.admin.checks import check_admin_app, check_dependencies
from django.core.checks import CheckMessage, Tags, register


class ConsoleConfig(AppConfig):
    """Django's own configuration imports every `admin` module at each start.

    Here `config.urls` does that. A worker and most commands load no URLs: they start faster and use less memory.
    """

    name = "django.contrib.admin"
    verbose_name = "Administration"
    default_auto_field = "django.db.models.AutoField"
    default_site = "unfold.sites.UnfoldAdminSite"

    def ready(self) -> None:
        register(check_dependencies, Tags.admin)
        register(check_console, Tags.admin)


def check_console(app_configs: Any, **kwargs: Any) -> Sequence[CheckMessage]:
    """Run Django's checks of the admin classes, which it can only run once they are imported."""
    admin.autodiscover()
    found: Sequence[CheckMessage] = check_admin_app(app_configs, **kwargs)
    return found
