"""A run overlaps with the last one before it that has not ended, whatever became of those between them.

Only the last run was looked at: where its held deliveries had been cancelled, the run that they had waited for went
unseen, and the next one was sent while that was still in flight.
"""

from importlib import import_module

from django.db import migrations

BEFORE = """
        WHERE id = ANY (SELECT unnest(delivery_ids) FROM (SELECT delivery_ids FROM scheduling_run
                WHERE job_id = p_job AND result = 'accepted' ORDER BY started_at DESC LIMIT 1) AS last)
            AND state IN ('pending', 'sending', 'awaiting_callback')
"""
AFTER = """
        -- Of each lane the last that has not ended, among the last 20 runs.
        WHERE id = ANY (ARRAY(SELECT DISTINCT ON (d.lane_id) d.id
                FROM (SELECT delivery_ids, started_at FROM scheduling_run
                    WHERE job_id = p_job AND result = 'accepted' ORDER BY started_at DESC LIMIT 20) AS last,
                    unnest(last.delivery_ids) AS one(id) JOIN reliability_delivery d USING (id)
                WHERE d.state IN ('pending', 'sending', 'awaiting_callback')
                ORDER BY d.lane_id, last.started_at DESC))
            AND state IN ('pending', 'sending', 'awaiting_callback')
"""
RUN = import_module("scheduling.migrations.0002_run").RUN.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")


class Migration(migrations.Migration):
    dependencies = [("scheduling", "0003_groups")]

    operations = [migrations.RunSQL(RUN.replace(BEFORE, AFTER), RUN)]
