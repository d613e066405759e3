"""The settings of the minimal project: the same database by Django's own engine, and nothing else.

It keeps its connections and has them checked, as ours does, with what Django brings for that.
"""

from config.settings import ALLOWED_HOSTS, SECRET_KEY
from config.settings import DATABASES as OURS

DATABASES = {"default": {**OURS["default"], "ENGINE": "django.db.backends.postgresql"}}
__all__ = ["ALLOWED_HOSTS", "DATABASES", "SECRET_KEY"]
ROOT_URLCONF = "bench.minimal"
INSTALLED_APPS: list[str] = []
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
USE_TZ = True
