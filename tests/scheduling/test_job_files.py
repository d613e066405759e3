import io
import json

import pytest
from django.core.management import CommandError, call_command

from reliability.models import AuditEntry
from scheduling.models import CronJob

from ..support.workers import ROOT

FILE = {
    "slug": "weekly-recap",
    "name": "Weekly recap",
    "schedule": "0 9 * * MON",
    "timezone": "Europe/Berlin",
    "grace_seconds": 900,
    "workflows": ["recap"],
    "payload": {"days": 7},
    "catch_up": "one",
}


def run(*words) -> str:
    out = io.StringIO()
    call_command(*words, stdout=out)
    return out.getvalue()


@pytest.fixture
def file(tmp_path, workflow):
    workflow("recap")

    def write(document) -> str:
        path = tmp_path / "jobs.json"
        path.write_text(json.dumps(document))
        return str(path)

    return write


def test_what_is_exported_imports_to_the_same(file):
    assert run("import_cron_jobs", file([FILE])) == "weekly-recap: created\n"
    exported = run("export_cron_jobs")
    (found,) = [one for one in json.loads(exported) if one["slug"] == "weekly-recap"]
    assert found == FILE
    assert set(run("import_cron_jobs", file(json.loads(exported))).split()) == {
        "alerts:",
        "cleanup:",
        "weekly-recap:",
        "unchanged",
    }
    assert run("export_cron_jobs") == exported
    assert AuditEntry.objects.filter(action="import_cron_job").count() == 1


@pytest.mark.parametrize("schedule", ["@daily", "0 30 9 ? * MON", "*/20 * * * * *", "0 0 9 LW * ?"])
def test_a_schedule_of_each_dialect_is_kept_as_it_was_written(file, schedule):
    run("import_cron_jobs", file({**FILE, "schedule": schedule}))
    assert CronJob.objects.get(slug="weekly-recap").schedule == schedule
    (found,) = [one for one in json.loads(run("export_cron_jobs")) if one["slug"] == "weekly-recap"]
    assert found["schedule"] == schedule


def test_what_a_schedule_cannot_say_is_named_by_its_part(file):
    with pytest.raises(CommandError, match=r"'15W' \(day of month\): the nearest weekday"):
        run("import_cron_jobs", file({**FILE, "schedule": "0 0 9 15W * ?"}))
    assert not CronJob.objects.filter(slug="weekly-recap").exists()


def test_what_a_file_leaves_out_goes_back_and_a_switch_stays(file):
    run("import_cron_jobs", file({**FILE, "enabled": False, "disabled_reason": "holidays"}))
    before = CronJob.objects.get(slug="weekly-recap")
    assert run("import_cron_jobs", file({"slug": "weekly-recap", "period_seconds": 60})) == "weekly-recap: updated\n"
    after = CronJob.objects.get(slug="weekly-recap")
    assert (after.schedule, after.timezone, after.period_seconds, after.catch_up) == ("", "UTC", 60, "none")
    assert (after.name, after.payload, after.workflows.count()) == ("weekly-recap", {}, 0)
    assert (after.enabled, after.disabled_reason) == (False, "holidays")
    assert after.active_since > before.active_since
    run("import_cron_jobs", file({"slug": "weekly-recap", "period_seconds": 60, "enabled": True}))
    assert CronJob.objects.get(slug="weekly-recap").enabled


def test_a_built_in_job_gets_a_schedule(file):
    run("import_cron_jobs", file({"slug": "cleanup", "schedule": "0 3 * * *"}))
    job = CronJob.objects.get(slug="cleanup")
    assert (job.builtin, job.schedule) == ("cleanup", "0 3 * * *")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schedule": "0 25 * * *"}, "0.schedule: '0 25 * * *' is not a cron expression"),
        ({"timezone": "Mars/Base"}, "0.timezone: 'Mars/Base' is not a known time zone"),
        ({"period_seconds": 60}, "Set a cron expression or a period, not both."),
        ({"schedule": None, "period_seconds": 0}, "0.period_seconds"),
        ({"grace_seconds": -1}, "0.grace_seconds"),
        ({"grace_seconds": "5"}, '0.grace_seconds: "5" is not a whole number.'),
        ({"workflows": ["recap", "nowhere"]}, "0.workflows: There is no workflow 'nowhere'."),
        ({"workflows": "recap"}, "0.workflows: Must be a list"),
        ({"payload": [1]}, "0.payload: [1] is not a JSON object."),
        ({"payload": {"a": ["\u0000"]}}, "A string contains a NUL, which cannot be stored."),
        ({"overlap": "both"}, "0.overlap"),
        ({"slug": "Weekly Recap"}, "0.slug: A slug is"),
        ({"slug": None}, "0"),
        ({"cron": "0 9 * * *"}, "0.cron: Unknown field."),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_whole(file, change, says):
    with pytest.raises(CommandError) as refusal:
        run("import_cron_jobs", file([{**FILE, **change}, {"slug": "other"}]))
    assert says in str(refusal.value)
    assert set(CronJob.objects.values_list("slug", flat=True)) == {"alerts", "cleanup"}


def test_the_same_job_twice_is_refused(file):
    with pytest.raises(CommandError, match="twice"):
        run("import_cron_jobs", file([FILE, FILE]))


def test_the_example_makes_sense_and_is_what_is_exported(workflow):
    workflow("weekly-recap"), workflow("notify-gap-fill")
    example = ROOT / "docs" / "cron-jobs.example.json"
    run("import_cron_jobs", str(example))
    slugs = [one["slug"] for one in json.loads(example.read_text())]
    exported = {one["slug"]: one for one in json.loads(run("export_cron_jobs", *slugs))}
    assert [exported[slug] for slug in slugs] == json.loads(example.read_text())


def test_export_names_what_is_missing(db):
    with pytest.raises(CommandError, match="No such cron job: nowhere"):
        run("export_cron_jobs", "nowhere")
