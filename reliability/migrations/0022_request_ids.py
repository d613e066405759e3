"""Deliveries remember which request made them, and its place in a trace.

The columns' defaults read what the statement that inserts has set by `backstop_from`, so that none of the functions
that insert (0003, 0007, scheduling's 0002) needs two more arguments, and code that knows nothing of it goes on working.
PostgreSQL keeps a default for the rows there are in its catalogue: no row is written.
"""

import django.db.models.functions.comparison
from django.db import migrations, models

FROM = """
CREATE FUNCTION backstop_from(p_id uuid, p_request text, p_trace text) RETURNS uuid LANGUAGE plpgsql AS $$
BEGIN
    -- Until the transaction ends; an argument is worked out before the function it is for is called.
    PERFORM set_config('backstop.request_id', p_request, true), set_config('backstop.traceparent', p_trace, true);
    RETURN p_id;
END $$;
"""


def setting(name):
    return django.db.models.functions.comparison.Coalesce(
        models.Func(models.Value(name), models.Value(True), function="current_setting"),
        models.Value(""),
        output_field=models.TextField(),
    )


class Migration(migrations.Migration):
    dependencies = [("reliability", "0021_accept_by_key")]

    operations = [
        migrations.RunSQL("SET LOCAL lock_timeout = '5s'", migrations.RunSQL.noop),
        migrations.AddField(
            "delivery",
            "request_id",
            models.TextField(blank=True, default="", db_default=setting("backstop.request_id")),
        ),
        migrations.AddField(
            "delivery",
            "traceparent",
            models.TextField(blank=True, default="", db_default=setting("backstop.traceparent")),
        ),
        migrations.RunSQL(FROM, "DROP FUNCTION backstop_from(uuid, text, text)"),
    ]
