"""What web processes count themselves: pings, requests, queries, memory; several of them, one after another's end."""

import os
import shutil
import time

import pytest
import requests
from prometheus_client import values
from prometheus_client.mmap_dict import MmapedDict, mmap_key

from config import measuring
from reliability.core import process_usage
from reliability.metrics import multiprocess, web
from scheduling import counting, light
from scheduling.models import CronJob

from ..support.web import Web
from .conftest import Scraped

SECRET = {"Authorization": "Bearer a-cron-secret"}
NO_ONE = 4_194_304  # above the highest number of a process


@pytest.fixture
def names(monkeypatch):
    """Begin without any name of a job."""
    monkeypatch.setattr(counting, "_names", set())
    monkeypatch.setattr(counting, "reached", {})


@pytest.fixture
def webs(tmp_path, transactional_db):
    """Web processes that share a directory."""
    running = []

    def start() -> Web:
        place = tmp_path / str(len(running))
        place.mkdir()
        made = Web(place, CRON_SECRET="a-cron-secret", PROMETHEUS_MULTIPROC_DIR=str(tmp_path / "counts"))
        running.append(made)
        return made

    yield start
    for one in running:
        if one.process.poll() is None:
            one.kill()


def read(made: Web) -> Scraped:
    return Scraped(requests.get(f"{made.url}/metrics", timeout=30).text)


def ping(made: Web, times: int, **headers: str) -> None:
    for _ in range(times):
        requests.get(f"{made.url}/cron/weekly-recap/", headers=headers, timeout=10)


def of_recap(scraped: Scraped, result: str) -> float | None:
    return scraped("backstop_cron_pings_total", job="weekly-recap", result=result)


def test_two_processes_say_the_same_and_a_dead_one_takes_nothing_back(webs, tmp_path):
    one, other = webs(), webs()
    ping(one, 3, **SECRET)
    ping(other, 2, **SECRET)
    ping(other, 1, Authorization="Bearer wrong")
    for made in (one, other):
        seen = read(made)
        assert of_recap(seen, "ok") == 5
        assert of_recap(seen, "forbidden") == 1
        assert len([s for s in seen.samples if s.name == "process_resident_memory_bytes"]) == 2
        assert time.time() - seen("backstop_cron_last_ping_timestamp_seconds", job="weekly-recap") < 60
    other.kill()
    seen = read(one)
    assert of_recap(seen, "ok") == 5
    assert len([s for s in seen.samples if s.name == "process_resident_memory_bytes"]) == 1
    third = webs()
    ping(third, 1, **SECRET)
    seen = read(one)
    assert of_recap(seen, "ok") == 6
    assert len([s for s in seen.samples if s.name == "process_cpu_seconds_total"]) == 2
    counted = {multiprocess.process_of(path) for path in (tmp_path / "counts").glob("*.db")}
    assert len(counted) == 3, "two that live, and what all the dead came to"
    assert web.MERGED in counted
    view = "reliability.views.healthz"
    assert seen("django_http_responses_total_by_status_view_method_total", view=view, status="200") >= 3
    assert seen("django_db_query_duration_seconds_count") > 0


def test_requests_go_by_view_and_never_by_path(client, scrape, workflow, api, accept):
    workflow(paused=True)
    made = accept()
    api.get(f"/api/v1/deliveries/{made.pk}/")
    api.get("/api/v1/deliveries/not-an-id/")
    client.get("/nowhere/a-stranger-made-this-up/")
    client.generic("BREW", "/healthz")
    seen = scrape()
    labels = {(one.labels["view"], one.labels["method"]) for one in seen.samples if "responses_total" in one.name}
    assert (measuring.NO_VIEW, "GET") in labels
    assert ("reliability.views.healthz", "<invalid method>") in labels
    assert not [view for view, _ in labels if "/" in view]
    assert str(made.pk) not in seen.text
    assert "stranger" not in seen.text


def test_a_strangers_words_are_no_label(names, scrape):
    for n in range(5):
        counting.light(path=f"/cron/made-up-{n}/", found=light.FORBIDDEN)
        counting.light(path=f"/cron/made-up-{n}/", found=light.NO_SECRET_SET)
        counting.post(job=f"made-up-{n}", result="unknown", seconds=0.1)
        counting.post(job=f"made-up-{n}", result="forbidden")
    assert "made-up" not in scrape().text
    assert scrape()("backstop_cron_pings_total", job="other", result="unknown") >= 5


def test_a_refusal_is_told_before_it_happens(names, scrape):
    counting.light(path="/cron/told-early/", found=light.REACHABLE)
    assert scrape()("backstop_cron_pings_total", job="told-early", result="forbidden") == 0
    assert scrape()("backstop_cron_pings_total", job="other", result="no_secret") is not None


def test_the_hundred_and_first_name_is_another(names, scrape):
    before = scrape()("backstop_cron_pings_total", job="other", result="ok") or 0
    for n in range(counting.LIMIT + 5):
        for _ in range(2):
            counting.light(path=f"/cron/bounded-{n}/", found=light.REACHABLE)
    seen = scrape()
    jobs = {one.labels["job"] for one in seen.samples if one.name == "backstop_cron_pings_total"}
    assert len([job for job in jobs if job.startswith("bounded-")]) == counting.LIMIT
    assert seen("backstop_cron_pings_total", job="other", result="ok") == before + 2 * 5
    assert seen("backstop_cron_pings_total", job="bounded-0", result="ok") == 2


@pytest.mark.parametrize(
    ("slug", "enabled", "headers", "times", "expected"),
    [
        ("posted", True, SECRET, 1, {"started": 1}),
        ("posted-twice", True, {**SECRET, "Idempotency-Key": "k"}, 2, {"started": 1, "repeated": 1}),
        ("posted-off", False, SECRET, 1, {"disabled": 1}),
        ("posted-badly", True, {**SECRET, "Idempotency-Key": "x" * 2000}, 1, {"error": 1}),
    ],
)
def test_pings_that_run_a_job(names, client, db, scrape, slug, enabled, headers, times, expected):
    CronJob.objects.create(slug=slug, name=slug, enabled=enabled)
    before = scrape()("backstop_cron_ping_duration_seconds_count") or 0
    for _ in range(times):
        client.post(f"/cron/{slug}/", headers=headers)
    seen = scrape()
    found = {}
    for one in seen.samples:
        if one.name == "backstop_cron_pings_total" and one.labels["job"] == slug and one.value:
            found[one.labels["result"]] = one.value
    assert found == expected
    assert seen("backstop_cron_ping_duration_seconds_count") == before + times
    assert seen("backstop_cron_job_late", job=slug) == 0


def test_files_of_the_dead_are_added_up(tmp_path, monkeypatch):
    monkeypatch.setenv(multiprocess.VARIABLE, str(tmp_path))
    for number, (count, last) in {NO_ONE + 1: (3.0, 70.0), NO_ONE + 2: (4.0, 60.0), os.getpid(): (1.0, 5.0)}.items():
        for prefix, name, value in (("counter", "a", count), ("gauge_max", "b", last)):
            file = MmapedDict(str(tmp_path / f"{prefix}_{number}.db"))
            file.write_value(mmap_key(name, name, [], [], "Told."), value, 0.0)
            file.close()
    for _ in range(2):
        web.merge_dead_processes()
        found = {one.name: one.samples[0].value for one in web.counted(None)}
        assert found == {"a": 8.0, "b": 70.0}
        assert sorted(path.stem.rpartition("_")[2] for path in tmp_path.glob("counter_*.db")) == ["0", str(os.getpid())]


def test_a_file_that_a_crash_spoiled_is_dropped(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv(multiprocess.VARIABLE, str(tmp_path))
    (tmp_path / f"counter_{NO_ONE + 1}.db").write_bytes(b"\xff\x7f\x00\x00" + b"\x11" * 100)
    (tmp_path / f"counter_{NO_ONE + 2}.db").write_bytes(b"")
    web.merge_dead_processes()
    assert "counts_dropped" in caplog.text
    assert list(web.counted(None)) == []


def test_a_later_process_of_the_same_number_is_another(tmp_path, monkeypatch):
    monkeypatch.setenv(multiprocess.VARIABLE, str(tmp_path))
    parent = os.getppid()
    path = tmp_path / f"counter_{parent}.db"
    MmapedDict(str(path)).close()
    assert parent in web.alive()
    os.utime(path, (1, 1))
    assert parent not in web.alive()
    assert os.getpid() in web.alive()


def test_where_no_kernel_tells_this_process_tells(monkeypatch, tmp_path):
    monkeypatch.setattr(process_usage, "PROC", tmp_path / "none")
    found = process_usage.own()
    assert found.memory_bytes > 10e6
    assert found.cpu_seconds > 0
    assert process_usage.of(pid=NO_ONE) is None


def test_who_cannot_count_answers_nevertheless(webs, tmp_path):
    made = webs()
    shutil.rmtree(tmp_path / "counts")
    headers = {"Authorization": "Bearer a-cron-secret"}
    for path in ("/cron/weekly-recap/", "/cron/weekly-recap/", "/healthz", "/api/v1/deliveries/"):
        assert requests.get(made.url + path, headers=headers, timeout=10).status_code in (200, 401), path
    seen = read(made)
    assert seen("backstop_scrape_part_up", part="web") == 0
    assert seen("backstop_scrape_part_up", part="totals") == 1


def test_the_tests_count_in_memory():
    assert values.ValueClass is values.MutexValue
