"""Totals begin with what is there already, and go on from it."""

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.migrations.loader import MigrationLoader

from reliability.core import clock
from reliability.dead_letters import create
from reliability.models import DeadLetter, Total

from ..support.receiver import Reply

OWN = ("reliability", "0017_totals")
KEPT = (
    ("backstop_deliveries_total", {"outcome": "delivered"}),
    ("backstop_deliveries_total", {"outcome": "dead"}),
    ("backstop_dead_letters_total", {}),
    ("backstop_dlq_entries", {"status": "dead"}),
    ("backstop_dlq_entries", {"status": "purged"}),
)


@pytest.mark.django_db(transaction=True)
def test_what_was_there_before_is_counted_once(workflow, receiver, drain, accept, scrape):
    workflow(max_retries=0)
    codes = iter([200, 500, 500])
    receiver.rule = lambda got: Reply(next(codes))
    for _ in range(3):
        accept()
        drain()
    DeadLetter.objects.filter(pk=DeadLetter.objects.earliest("id").pk).update(status="purged")
    before = [scrape()(name, **labels) for name, labels in KEPT]
    assert before == [1, 2, 2, 1, 1]
    parents = [one.key[1] for one in MigrationLoader(connection).graph.node_map[OWN].parents if one.key[0] == OWN[0]]
    call_command("migrate", OWN[0], parents[0], verbosity=0)
    assert "reliability_total" not in connection.introspection.table_names()
    call_command("migrate", verbosity=0)
    assert [scrape()(name, **labels) for name, labels in KEPT] == before
    assert set(Total.objects.filter(name="letters").values_list("shard", flat=True)) == {-1}
    create.from_api(report=create.Report("echo", "default", "{}", "it failed"), now=clock.now())
    assert scrape()("backstop_dlq_entries", status="dead") == 2
    assert scrape()("backstop_dead_letters_total") == 3
