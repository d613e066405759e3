"""The SQL functions of cron jobs (`reliability/sql/cron_….sql`)."""

from django.db import migrations

from reliability.sql import install


class Migration(migrations.Migration):
    dependencies = [
        ("scheduling", "0001_initial"),
        # Runs are accepted by `backstop_accept`.
        ("reliability", "0004_sql"),
        # Built-in jobs are jobs of Procrastinate's, written by its function `procrastinate_defer_jobs_v1`.
        ("procrastinate", "0041_post_retry_failed_job"),
    ]

    operations = [install("scheduling_0002")]
