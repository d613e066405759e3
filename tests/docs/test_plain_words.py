"""Documents, console and code use plain words: none of the phrases of `plain_words.BANNED`."""

import pytest

from . import plain_words
from .blocks import ROOT
from .plain_words import documents, sources, strings, wrong_with

# Files that still have such phrases, until they are rewritten. A file that has none any more must leave the list.
ALLOWED = {
    "config/database/base.py",
    "config/database/sessions.py",
    "config/database/sqlstates.py",
    "config/embedded.py",
    "config/embedded_server.py",
    "config/env.py",
    "config/front/bodies.py",
    "config/front/budget.py",
    "config/front/ending.py",
    "config/front/gateway.py",
    "config/front/pool.py",
    "config/front/sending.py",
    "config/logs.py",
    "config/navigation.py",
    "config/settings.py",
    "n8n/README.md",
    "reliability/admin/alerts/alerts.py",
    "reliability/admin/alerts/silences.py",
    "reliability/admin/bulk/operations.py",
    "reliability/admin/bulk/submit.py",
    "reliability/admin/common/base.py",
    "reliability/admin/common/duration_forms.py",
    "reliability/admin/common/page.py",
    "reliability/admin/common/status_text.py",
    "reliability/admin/dead_letters/change_list.py",
    "reliability/admin/dead_letters/detail.py",
    "reliability/admin/dead_letters/export.py",
    "reliability/admin/dead_letters/model_admin.py",
    "reliability/admin/dead_letters/url_filter.py",
    "reliability/admin/delivery/breakers.py",
    "reliability/admin/delivery/deliveries.py",
    "reliability/admin/setup/api_keys.py",
    "reliability/admin/setup/sign_ins.py",
    "reliability/admin/stats/overview.py",
    "reliability/alerts/check.py",
    "reliability/alerts/notices.py",
    "reliability/alerts/readings.py",
    "reliability/api/alerts/alerts.py",
    "reliability/api/alerts/serializers.py",
    "reliability/api/bulk/operations.py",
    "reliability/api/bulk/serializers.py",
    "reliability/api/common/pagination.py",
    "reliability/api/common/parsers.py",
    "reliability/api/common/serializers.py",
    "reliability/api/common/views.py",
    "reliability/api/delivery/guard_serializers.py",
    "reliability/api/delivery/guards.py",
    "reliability/api/n8n/executions.py",
    "reliability/api/n8n/serializers.py",
    "reliability/api/stats/status.py",
    "reliability/bulk/operations.py",
    "reliability/bulk/preview.py",
    "reliability/bulk/replay_one.py",
    "reliability/bulk/steps.py",
    "reliability/checks.py",
    "reliability/core/json_files.py",
    "reliability/core/known_secrets.py",
    "reliability/core/lock_order.py",
    "reliability/core/lock_waits.py",
    "reliability/core/request_context.py",
    "reliability/dead_letters/archive.py",
    "reliability/dead_letters/archive_restore.py",
    "reliability/dead_letters/create.py",
    "reliability/dead_letters/detail.py",
    "reliability/dead_letters/filters.py",
    "reliability/dead_letters/replay.py",
    "reliability/delivery/__init__.py",
    "reliability/delivery/curl.py",
    "reliability/delivery/dispatch.py",
    "reliability/delivery/dispatcher.py",
    "reliability/delivery/idempotency.py",
    "reliability/delivery/intake.py",
    "reliability/delivery/lane_expiry.py",
    "reliability/delivery/rollups.py",
    "reliability/delivery/sending.py",
    "reliability/delivery/turns.py",
    "reliability/errors.py",
    "reliability/formats/archive_format.py",
    "reliability/formats/json_text.py",
    "reliability/formats/strict_json.py",
    "reliability/lanes/breaker_reports.py",
    "reliability/lanes/breakers.py",
    "reliability/lanes/lane_snapshot.py",
    "reliability/management/base.py",
    "reliability/management/commands/check_alerts.py",
    "reliability/management/commands/cleanup.py",
    "reliability/management/commands/demo.py",
    "reliability/management/commands/n8n_reconcile.py",
    "reliability/management/commands/restore_archive.py",
    "reliability/management/commands/silence_alerts.py",
    "reliability/management/commands/up.py",
    "reliability/management/demo/__init__.py",
    "reliability/management/demo/dead_letters.py",
    "reliability/management/demo_parts.py",
    "reliability/management/embedded_database.py",
    "reliability/management/supervisor.py",
    "reliability/metrics/__init__.py",
    "reliability/metrics/catalogue.py",
    "reliability/metrics/lane_gauges.py",
    "reliability/models/alert.py",
    "reliability/models/archive.py",
    "reliability/models/dead_letter.py",
    "reliability/models/delivery.py",
    "reliability/models/execution.py",
    "reliability/models/idempotency.py",
    "reliability/models/operation.py",
    "reliability/models/stripe.py",
    "reliability/models/total.py",
    "reliability/n8n/execution_figures.py",
    "reliability/n8n/execution_retry.py",
    "reliability/n8n/execution_retry_end.py",
    "reliability/n8n/failure_reports.py",
    "reliability/n8n/reconcile.py",
    "reliability/n8n/sync.py",
    "reliability/n8n/workflow_matching.py",
    "reliability/policies/alerts.py",
    "reliability/policies/breaker.py",
    "reliability/policies/bulk.py",
    "reliability/policies/fingerprint.py",
    "reliability/queue/__init__.py",
    "reliability/queue/manager.py",
    "reliability/queue/sweep.py",
    "reliability/queue/worker.py",
    "reliability/retention/alert_rules.py",
    "reliability/retention/runner.py",
    "reliability/setup/api_keys.py",
    "reliability/setup/doctor/__init__.py",
    "reliability/setup/doctor/service.py",
    "reliability/setup/doctor/sessions.py",
    "reliability/stats/charts.py",
    "reliability/stats/gauges.py",
    "reliability/stats/overview.py",
    "reliability/stats/status.py",
    "reliability/stripe/claims.py",
    "reliability/stripe/reconcile.py",
    "reliability/templatetags/letters.py",
    "reliability/transport/__init__.py",
    "reliability/transport/client.py",
    "reliability/transport/deadline_adapter.py",
    "reliability/transport/exchange.py",
    "reliability/transport/response.py",
    "reliability/views.py",
    "scheduling/admin.py",
    "scheduling/api.py",
    "scheduling/counting.py",
    "scheduling/health.py",
    "scheduling/metrics.py",
    "scheduling/models.py",
    "templates/500.html",
    "templates/admin/index.html",
    "templates/admin/reliability/bulk.html",
    "templates/admin/reliability/deadletter/attempts.html",
    "templates/admin/reliability/deadletter/banner.html",
    "templates/admin/reliability/deadletter/lineage.html",
    "templates/admin/reliability/deadletter/list.html",
    "templates/admin/reliability/locked_out.html",
    "templates/admin/reliability/operation.html",
    "templates/admin/reliability/screens/alert.html",
    "templates/admin/reliability/screens/base.html",
    "templates/admin/reliability/screens/delivery.html",
    "templates/admin/reliability/screens/entries.html",
    "templates/admin/reliability/screens/event.html",
    "templates/admin/reliability/screens/workflow.html",
}


def name(path) -> str:
    return str(path.relative_to(ROOT))


def faults_of(path) -> list[str]:
    if path.suffix == ".py":
        found = [(line, wrong) for line, text in strings(path) for wrong in wrong_with(text)]
        return [f"{name(path)}:{line}: {wrong}" for line, wrong in found]
    return [f"{name(path)}: {wrong}" for wrong in wrong_with(plain_words.prose(path))]


@pytest.mark.parametrize("path", [*documents(), *sources()], ids=name)
def test_no_banned_phrase(path):
    faults = faults_of(path)
    if name(path) not in ALLOWED:
        assert not faults, "\n".join(faults)


def test_the_list_of_exceptions_shrinks():
    """One failure for all of them, so that the list can be emptied at once."""
    every = {name(path): path for path in [*documents(), *sources()]}
    done = sorted(one for one in ALLOWED if one not in every or not faults_of(every[one]))
    assert not done, "These are plain now, or gone: take them off ALLOWED:\n" + "\n".join(done)


@pytest.mark.parametrize(
    ("text", "is_plain"),
    [
        ("The workflow is out of order.", False),
        ("Whoever comes\n  with an older one", False),
        ("The workflow is failing.", True),
        ("a delivery that failed for good", True),
        ("This address makes no\n sense.", False),
    ],
)
def test_what_is_found(text, is_plain):
    assert (wrong_with(text) == []) == is_plain
