"""Settling finds its rows by their ids, however many others were claimed since the last VACUUM."""

import json
from uuid import uuid4

import pytest
from django.db import connection

from reliability.delivery.settle import SETTLE

pytestmark = pytest.mark.django_db(transaction=True)


def test_settling_reads_by_the_primary_key(workflow, accept_many):
    workflow()
    delivery = accept_many(2000)[0]
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE reliability_delivery")  # by these statistics, nothing is being sent
        row = {"id": str(delivery.pk), "token": str(uuid4()), "state": "delivered", "retry": 0, "error": ""}
        cursor.execute("EXPLAIN " + SETTLE, [json.dumps([row])])
        plan = "\n".join(line for (line,) in cursor.fetchall())

    assert "reliability_delivery_pkey" in plan
    assert "delivery_by_state" not in plan
    assert "delivery_in_flight" not in plan
    assert "Seq Scan" not in plan
