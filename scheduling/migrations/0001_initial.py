"""Cron jobs, their runs, and the pings that started them."""

import django.contrib.postgres.fields
import django.core.validators
import django.db.models.deletion
import django.utils.timezone
import reliability.models.fields
import reliability.models.ids
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    dependencies = [
        ('reliability', '0001_initial'),
    ]

    operations = [
        migrations.CreateModel(
            name='CronJob',
            fields=[
                ('id', models.UUIDField(default=reliability.models.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('slug', reliability.models.fields.SlugTextField(help_text='Part of the ping path: POST /cron/<slug>/', unique=True)),
                ('name', models.TextField(help_text='Display name.')),
                ('schedule', models.TextField(blank=True, default='', help_text="Cron expression, for example '0 9 * * MON', '@daily' or, with seconds, '30 0 9 * * 1'.")),
                ('timezone', models.TextField(default='UTC', help_text='Time zone of the expression, for example Europe/Berlin.')),
                ('period_seconds', models.IntegerField(blank=True, help_text='Expected period in seconds, instead of an expression.', null=True, validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(31622400)])),
                ('grace_seconds', models.IntegerField(default=300, help_text='How late a run may be, in seconds, before it counts as missing.', validators=[django.core.validators.MinValueValidator(0), django.core.validators.MaxValueValidator(31622400)])),
                ('tenant', reliability.models.fields.SlugTextField(default='default')),
                ('payload', models.JSONField(blank=True, default=dict, help_text="A JSON object that the workflows receive as 'data'.")),
                ('overlap', models.TextField(choices=[('skip', 'Skip the run'), ('queue', 'Queue it behind the previous run')], default='skip')),
                ('catch_up', models.TextField(choices=[('none', 'Ignore them'), ('one', 'One run for all of them'), ('all', 'One run for each, oldest first')], default='none')),
                ('enabled', models.BooleanField(default=True)),
                ('disabled_reason', models.TextField(blank=True, default='')),
                ('builtin', models.TextField(blank=True, choices=[('', 'No, calls workflows'), ('cleanup', 'Clean-up'), ('alerts', 'Alert check')], default='', editable=False)),
                ('active_since', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('health', models.TextField(blank=True, default='', editable=False)),
                ('health_changed_at', models.DateTimeField(blank=True, editable=False, null=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('workflows', models.ManyToManyField(blank=True, related_name='cron_jobs', to='reliability.workflow')),
            ],
            options={
                'ordering': ('slug',),
                'permissions': [('run_cronjob', 'Can run cron jobs manually'), ('enable_cronjob', 'Can enable and disable cron jobs')],
                'constraints': [
                    models.CheckConstraint(condition=models.Q(('schedule', ''), ('period_seconds__isnull', True), _connector='OR'), name='cron_job_one_kind_of_schedule', violation_error_message='Set a cron expression or a period, not both.'),
                    models.CheckConstraint(condition=models.Q(('period_seconds__isnull', True), ('period_seconds__gt', 0), _connector='OR'), name='cron_job_period_positive'),
                    models.CheckConstraint(condition=models.Q(('grace_seconds__gte', 0)), name='cron_job_grace_not_negative'),
                    models.CheckConstraint(condition=models.Q(('overlap__in', ['skip', 'queue'])), name='cron_job_overlap_known'),
                    models.CheckConstraint(condition=models.Q(('catch_up__in', ['none', 'one', 'all'])), name='cron_job_catch_up_known'),
                    models.CheckConstraint(condition=models.Q(('builtin__in', ['', 'cleanup', 'alerts'])), name='cron_job_builtin_known'),
                    models.UniqueConstraint(condition=models.Q(('builtin', ''), _negated=True), fields=('builtin',), name='cron_job_builtin_once'),
                ],
            },
        ),
        migrations.CreateModel(
            name='Run',
            fields=[
                ('id', models.UUIDField(default=reliability.models.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('job', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='runs', to='scheduling.cronjob')),
                ('key', models.TextField()),
                ('slot', models.DateTimeField(blank=True, null=True)),
                ('started_at', models.DateTimeField()),
                ('finished_at', models.DateTimeField(blank=True, null=True)),
                ('result', models.TextField(choices=[('accepted', 'Accepted'), ('skipped', 'Skipped: previous run not finished'), ('failed', 'Failed')], default='accepted')),
                ('delivery_ids', django.contrib.postgres.fields.ArrayField(base_field=models.UUIDField(), blank=True, default=list, size=None)),
                ('missed', models.IntegerField(default=0)),
                ('caught_up_by', models.UUIDField(blank=True, editable=False, null=True)),
                ('error', models.TextField(blank=True, default='')),
            ],
            options={
                'ordering': ('-id',),
                'indexes': [
                    models.Index(models.F('job'), models.OrderBy(models.F('started_at'), descending=True), name='cron_run_by_job'),
                    models.Index(models.F('job'), models.OrderBy(models.F('slot'), descending=True), condition=models.Q(('slot__isnull', False)), name='cron_run_by_slot'),
                    models.Index(models.F('job'), models.OrderBy(models.F('id'), descending=True), name='cron_run_newest'),
                    models.Index(models.F('result'), models.OrderBy(models.F('id'), descending=True), condition=models.Q(('result', 'accepted'), _negated=True), name='cron_run_by_result'),
                    models.Index(models.F('caught_up_by'), condition=models.Q(('caught_up_by__isnull', False)), name='cron_run_caught_up'),
                ],
                'constraints': [
                    models.UniqueConstraint(fields=('job', 'key'), name='cron_run_once'),
                    models.CheckConstraint(condition=models.Q(('result__in', ['accepted', 'skipped', 'failed'])), name='cron_run_result_known'),
                ],
            },
        ),
        migrations.CreateModel(
            name='Ping',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('job', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='pings', to='scheduling.cronjob')),
                ('at', models.DateTimeField(db_index=True)),
                ('result', models.TextField(choices=[('run', 'Run started'), ('repeat', 'Duplicate'), ('skipped', 'Skipped'), ('disabled', 'Job disabled'), ('off', 'Scheduling switched off')])),
                ('duration_ms', models.IntegerField(default=0)),
                ('address', models.TextField(blank=True, default='')),
                ('run', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='pings', to='scheduling.run')),
            ],
            options={
                'ordering': ('-id',),
                'indexes': [
                    models.Index(models.F('job'), models.OrderBy(models.F('id'), descending=True), name='cron_ping_newest'),
                    models.Index(models.F('result'), models.OrderBy(models.F('id'), descending=True), condition=models.Q(('result', 'run'), _negated=True), name='cron_ping_by_result'),
                ],
                'constraints': [
                    models.CheckConstraint(condition=models.Q(('result__in', ['run', 'repeat', 'skipped', 'disabled', 'off'])), name='cron_ping_result_known'),
                ],
            },
        ),
    ]
