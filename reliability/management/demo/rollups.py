"""The rows of the charts, counted from the demo's rows. Triggers count the dead letters by reason."""

from collections.abc import Sequence
from typing import Any

from django.db import connection

from reliability.models import LATENCY_EDGES, Grain

# By minute or hour: deliveries with their latencies, by their end; and attempts, by their start.
ROLLUP = """
WITH ends AS (
    SELECT lane_id, date_trunc(%(grain)s, finished_at, 'UTC') AS at,
        count(*) FILTER (WHERE state = 'delivered') AS delivered, count(*) FILTER (WHERE state = 'dead') AS dead,
        array_agg(width_bucket(extract(epoch FROM finished_at - created_at) * 1000, %(edges)s::numeric[]))
            FILTER (WHERE state = 'delivered') AS buckets
    FROM reliability_delivery WHERE lane_id = ANY(%(lanes)s) AND state IN ('delivered', 'dead') GROUP BY 1, 2
), tries AS (
    SELECT d.lane_id, date_trunc(%(grain)s, a.started_at, 'UTC') AS at, count(*) AS attempts,
        count(*) FILTER (WHERE a.result <> 'delivered') AS failures
    FROM reliability_attempt a JOIN reliability_delivery d ON d.id = a.delivery_id
    WHERE d.lane_id = ANY(%(lanes)s) GROUP BY 1, 2
)
INSERT INTO reliability_rollup (lane_id, grain, at, delivered, dead, attempts, failures, latency)
SELECT lane_id, %(grain)s, at, coalesce(delivered, 0), coalesce(dead, 0), coalesce(attempts, 0), coalesce(failures, 0),
    CASE WHEN buckets IS NULL THEN '{}' ELSE ARRAY(SELECT count(b)::int FROM generate_series(0, %(last)s) AS edge
        LEFT JOIN unnest(buckets) AS b ON b = edge GROUP BY edge ORDER BY edge) END
FROM ends FULL JOIN tries USING (lane_id, at)
"""


def fill(lane_ids: Sequence[int]) -> None:
    """Write the roll-ups of the lanes, by minute and by hour."""
    with connection.cursor() as cursor:
        for grain in Grain.values:
            values: dict[str, Any] = {
                "grain": grain,
                "lanes": list(lane_ids),
                "edges": list(LATENCY_EDGES),
                "last": len(LATENCY_EDGES),
            }
            cursor.execute(ROLLUP, values)
