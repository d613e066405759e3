"""The first page: what it says when all is well, when nothing is there, and when something is wrong."""

import json
import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client

from reliability.admin.stats import overview
from reliability.core import clock
from reliability.core.audit import Actor
from reliability.dead_letters import create
from reliability.delivery import control
from reliability.models import AuditEntry, Operation


def page_of(group=None, **query) -> str:
    user = User.objects.create_user(f"one-{group}-{len(query)}", is_staff=True, is_superuser=group is None)
    if group in ("viewers", "operators", "leads"):
        user.groups.add(Group.objects.get(name=group))
    client = Client()
    client.force_login(user)
    answer = client.get("/admin/", query)
    assert answer.status_code == 200
    return answer.content.decode()


@pytest.fixture
def dead(workflow):
    made = workflow()
    for n in range(3):
        report = create.Report("echo", "default", "{}", f"no such client {n} <img src=x onerror=alert(1)>", "E1")
        create.from_api(report=report, now=clock.now())
    return made


def test_an_empty_console_says_so_and_shows_no_blank_chart(db):
    page = page_of()
    assert "No dead letters. No delivery yet." in page
    assert "<canvas" not in page
    assert "No operator actions yet." in page


def test_what_failed_the_same_way_is_one_group_that_leads_on(dead):
    page = page_of("operators")
    group = page.partition('id="groups-title"')[2].partition("</section>")[0]
    assert group.count("<tr>") == 2
    assert re.search(
        r'href="/admin/reliability/deadletter/\?status__exact=dead&amp;workflow=echo&amp;fingerprint=\w+"', group
    )
    assert "<img src=x" not in page
    assert 'href="/admin/reliability/deadletter/?status__exact=dead"' in page


def test_each_chart_has_a_table_that_says_the_same(dead):
    page = page_of()
    chart = json.loads(re.search(r'<script id="chart-dead" type="application/json">(.*?)</script>', page)[1])
    assert sum(sum(one["data"]) for one in chart["datasets"]) == 3
    table = page.partition('id="chart-dead-table"')[2].partition("</table>")[0]
    assert [int(one) for one in re.findall(r'<td class="bs-number">(\d+)</td>', table)] == [3]
    assert chart["labels"][-1] in table


@pytest.mark.parametrize(
    ("wanted", "current"), [("1h", "1h"), ("7d", "7d"), ("", "24h"), ("9y", "24h"), ("<b>", "24h")]
)
def test_the_range_is_in_the_address(db, wanted, current):
    assert f'href="?range={current}" aria-current="true"' in page_of(range=wanted)


def test_the_banner_is_there_when_something_is_wrong_alone(workflow, monkeypatch):
    monkeypatch.setattr("reliability.queue.workers_alive", lambda: 1)
    made = workflow()
    assert 'class="bs-notices"' not in page_of()
    monkeypatch.setattr("reliability.queue.workers_alive", lambda: 0)
    assert "No worker is alive" in page_of("viewers")
    control.pause(workflow_id=made.pk, actor=Actor("a", "release"), now=clock.now())
    assert '<span class="bs-tile-note">echo</span>' in page_of("leads")


def test_a_running_operation_has_a_bar_and_is_looked_at_often(db):
    assert "data-running" not in page_of()
    now = clock.now()
    Operation.objects.create(kind="replay", actor="a", created_at=now, cutoff=now, matched=148, done=91)
    page = page_of("viewers")
    assert "91 / 148" in page
    assert 'aria-valuenow="61"' in page
    assert "data-running" in page


def test_the_last_actions_name_who_and_why(db):
    AuditEntry.objects.create(
        at=clock.now() - timedelta(minutes=5), actor="user:ada", action="replay", reason="<b>back"
    )
    page = page_of()
    assert "user:ada" in page
    assert "&lt;b&gt;back" in page


def test_someone_who_may_view_nothing_is_told_so(db):
    page = page_of("nobody")
    assert "Your account has no permissions yet" in page
    assert "Dead letters" not in page


def test_a_viewer_is_offered_no_replay(dead, monkeypatch):
    monkeypatch.setattr(overview, "_replay_url", lambda chosen: "/replay/")
    assert "Replay group" not in page_of("viewers")
    assert "Replay group" in page_of("operators")


def test_the_page_costs_few_queries(dead, admin_client, django_assert_max_num_queries):
    for n in range(10):
        AuditEntry.objects.create(at=clock.now(), actor="user:olga", action="replay", reason=str(n))
    admin_client.get("/admin/")
    with django_assert_max_num_queries(15):
        admin_client.get("/admin/")
