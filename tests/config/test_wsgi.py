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
