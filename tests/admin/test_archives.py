"""The list of archives: what left, and the command that brings it back."""

import pytest
from django.contrib.auth.models import User
from django.test import Client

from reliability.core import clock
from reliability.models import Archive

from .test_console import change, signed_in

pytestmark = pytest.mark.django_db
LIST = "/admin/reliability/archive/"
NAME = "dead-letters/2026/11/20261124T220705Z-01a20fa1"


@pytest.fixture
def kept() -> Archive:
    now = clock.now()
    times = {"created_at": now, "lease_until": now}
    Archive.objects.create(name="half", state="writing", **times)
    manifest = {"sha256": "ab" * 32, "blocks": [[0, 1, 1]]}
    values = {"letters": 1204, "size": 52_000, "manifest": manifest, "restored": [1, 2, 7]}
    return Archive.objects.create(name=NAME, state="kept", kept_at=now, **values, **times)


@pytest.mark.parametrize("group", ["viewers", "operators", "leads"])
def test_each_group_sees_what_left_and_how_it_comes_back(kept, group):
    client = signed_in(group)
    assert LIST in client.get("/admin/").content.decode()
    for page in (client.get(LIST), client.get(change(Archive, kept.pk))):
        assert page.status_code == 200
        text = page.content.decode()
        assert f'data-copy="manage.py restore_archive {NAME} --dry-run"' in text
        assert f'data-copy="{"ab" * 32}"' in text
        assert "50.8\xa0KB" in text
    assert "20261124T220705Z …01a20fa1" in client.get(LIST).content.decode()


def test_of_one_that_is_being_written_there_is_nothing_to_bring_back(kept):
    page = signed_in().get(LIST, {"state__exact": "writing"}).content.decode()
    assert "nothing to restore" in page
    assert "restore_archive half" not in page


def test_it_is_found_by_its_whole_name_or_its_id_and_what_is_long_is_not_read(kept, django_assert_max_num_queries):
    client = signed_in()
    for term in (NAME, str(kept.pk)):
        (found,) = client.get(LIST, {"q": term}).context["cl"].result_list
        assert (found.pk, found.restored_total, found.sha256) == (kept.pk, 3, "ab" * 32)
        assert found.get_deferred_fields() == {"manifest", "restored", "withdrawn"}
    with django_assert_max_num_queries(20):
        client.get(LIST)


def test_nobody_changes_one_or_sees_it_unasked(kept):
    client = signed_in()
    assert client.get(f"{LIST}add/").status_code == 403
    assert client.post(change(Archive, kept.pk), {"letters": "0"}).status_code == 403
    assert client.post(f"{LIST}{kept.pk}/delete/").status_code == 403
    other = Client()
    other.force_login(User.objects.create_user("nobody", password="x", is_staff=True))
    assert other.get(LIST).status_code == 403
