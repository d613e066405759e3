"""The settings of the minimal project: the same database, nothing else."""

from config.settings import ALLOWED_HOSTS, DATABASES, SECRET_KEY

__all__ = ["ALLOWED_HOSTS", "DATABASES", "SECRET_KEY"]
ROOT_URLCONF = "bench.minimal"
INSTALLED_APPS: list[str] = []
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
USE_TZ = True
