"""Deliveries that are held until an earlier one has ended: `Delivery.waits_for`.

A trigger lets them go, in the transaction by which the earlier one ends, whichever way it does. It is asked for
cron's deliveries alone; for all others its condition is all that it costs. Whoever holds a delivery back locks the
earlier one's row first (`FOR NO KEY UPDATE`), so that either it sees that one ended, or the trigger sees the new one.
"""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models

LET_GO = """
CREATE FUNCTION backstop_let_go() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_lane integer;
BEGIN
    FOR v_lane IN
        -- One that was held itself hands on whom it waited for.
        UPDATE reliability_delivery SET waits_for = NEW.waits_for WHERE waits_for = NEW.id RETURNING lane_id
    LOOP
        PERFORM backstop_wake(v_lane);
    END LOOP;
    RETURN NULL;
END $$;
CREATE TRIGGER delivery_let_go AFTER UPDATE OF state ON reliability_delivery FOR EACH ROW
    WHEN (NEW.source = 'cron' AND OLD.state IN ('pending', 'sending', 'awaiting_callback')
        AND NEW.state NOT IN ('pending', 'sending', 'awaiting_callback'))
    EXECUTE FUNCTION backstop_let_go();
"""
DROP = "DROP TRIGGER delivery_let_go ON reliability_delivery; DROP FUNCTION backstop_let_go()"


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("reliability", "0005_incoming")]

    operations = [
        AddIndexConcurrently(
            "delivery",
            models.Index(models.F("waits_for"), name="delivery_held", condition=models.Q(waits_for__isnull=False)),
        ),
        migrations.RunSQL(LET_GO, DROP),
    ]
