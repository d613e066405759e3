"""Whoever owes totals owes failure groups first: at commit, all transactions then take the rows of both in one order.

A transaction that ended a delivery before it touched a dead letter would count its totals first, another the groups
first, and each could wait for a row of the other's.
"""

from django.db import migrations

OWE = """
CREATE OR REPLACE FUNCTION backstop_owe_totals() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO backstop_failure_due (xact) VALUES (pg_current_xact_id()) ON CONFLICT DO NOTHING;
    INSERT INTO backstop_total_due (xact) VALUES (pg_current_xact_id()) ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$
"""
AS_BEFORE = OWE.replace(
    "    INSERT INTO backstop_failure_due (xact) VALUES (pg_current_xact_id()) ON CONFLICT DO NOTHING;\n", ""
)


class Migration(migrations.Migration):
    dependencies = [("reliability", "0023_request_index")]

    operations = [migrations.RunSQL(OWE, AS_BEFORE)]
