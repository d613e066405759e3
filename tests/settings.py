"""The project's own settings, on an embedded PostgreSQL of the tests."""

import os
import sys
from pathlib import Path

from config import embedded

_DATA = Path(__file__).resolve().parent.parent / ".data" / "tests"

os.environ.setdefault("SECRET_KEY", "a-key-for-tests-only-" + "x" * 40)
os.environ.setdefault("CRON_SECRET", "a-cron-secret")
os.environ.setdefault("ALLOWED_HOSTS", "testserver,localhost,127.0.0.1")
os.environ.setdefault("N8N_WEBHOOK_URL", "http://127.0.0.1:9/webhook")
os.environ.setdefault("LOG_LEVEL", "WARNING")
# Hundreds of processes start: none is to compile the project again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
IS_OWN_SERVER = not os.environ.get("DATABASE_URL")
if IS_OWN_SERVER:
    os.environ["DATABASE_URL"] = embedded.start(_DATA / "postgresql")

from config.settings import *  # noqa: E402, F403  # after the environment is set

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}  # noqa: F405
STATIC_ROOT = _DATA / "static"
STATIC_ROOT.mkdir(parents=True, exist_ok=True)
STORAGES["archive"]["OPTIONS"]["location"] = _DATA / "archive"  # noqa: F405
