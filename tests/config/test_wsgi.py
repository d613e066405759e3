"""What a web process loads at its start."""

import subprocess
import sys

import pytest

from ..support.workers import ROOT, environment

pytestmark = pytest.mark.django_db
UNWANTED = ("stripe", "tqdm", "opentelemetry", "reliability.management.demo")


def test_what_a_server_does_not_need_is_not_loaded():
    code = f"import config.wsgi, sys; print('loaded', [name for name in {UNWANTED} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment(), capture_output=True, text=True, check=True
    )
    assert "loaded []" in done.stdout


@pytest.mark.parametrize(("process", "measures"), [("config.settings", False), ("config.wsgi", True)])
def test_only_a_web_process_measures_its_statements(process, measures):
    code = (
        "import os, django; os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'config.settings'); django.setup();"
        f"from django.core.management import call_command; call_command('check'); import {process};"
        "from django.db.backends.signals import connection_created;"
        "print('measures', 'backstop.measuring' in [key for (key, _), *_ in connection_created.receivers])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment(), capture_output=True, text=True, check=True
    )
    assert f"measures {measures}" in done.stdout
