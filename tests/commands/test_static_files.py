"""`up` collects the static files once, and again when they have changed."""

import os
import time

import pytest

from reliability.management import static_files


@pytest.fixture
def sources(settings, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "page.css").write_text("a {}")
    settings.STATIC_ROOT, settings.DATA_DIR = tmp_path / "collected", tmp_path / "data"
    settings.STATICFILES_FINDERS = ["django.contrib.staticfiles.finders.FileSystemFinder"]
    settings.STATICFILES_DIRS = [source]
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
    }
    return source


def test_files_are_collected_once(sources, settings):
    assert static_files.collect()
    assert (settings.STATIC_ROOT / "page.css").exists()
    assert not static_files.collect()


def test_a_changed_file_is_collected_again(sources, settings):
    static_files.collect()
    (sources / "page.css").write_text("b {}")
    later = time.time() + 60  # collectstatic keeps a copy that is not older
    os.utime(sources / "page.css", (later, later))
    assert static_files.collect()
    assert (settings.STATIC_ROOT / "page.css").read_text() == "b {}"


def test_removed_files_are_collected_again(sources, settings):
    static_files.collect()
    (settings.STATIC_ROOT / "staticfiles.json").unlink()
    assert static_files.collect()
