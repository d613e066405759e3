"""API keys, switches, the audit log, totals, roll-ups, failure groups, and alerts."""

import django.contrib.postgres.fields
import django.contrib.postgres.indexes
import django.db.models.deletion
import reliability.models.fields
import reliability.models.ids
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    dependencies = [
        ('axes', '0010_accessattemptexpiration'),
        ('reliability', '0002_n8n_and_stripe'),
    ]

    operations = [
        migrations.CreateModel(
            name='ApiKey',
            fields=[
                ('id', models.UUIDField(default=reliability.models.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('name', models.TextField()),
                ('prefix', models.TextField(editable=False, unique=True)),
                ('hash', models.TextField(editable=False)),
                ('tenant', reliability.models.fields.SlugTextField(blank=True, null=True)),
                ('scopes', django.contrib.postgres.fields.ArrayField(base_field=models.TextField(choices=[('read', 'Read'), ('deliver', 'Deliver'), ('report', 'Report'), ('operate', 'Operate')]), blank=True, default=list, size=None)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('last_used_at', models.DateTimeField(blank=True, editable=False, null=True)),
                ('expires_at', models.DateTimeField(blank=True, null=True)),
                ('revoked_at', models.DateTimeField(blank=True, editable=False, null=True)),
            ],
            options={
                'verbose_name': 'API key',
                'ordering': ('-id',),
                'permissions': [
                    ('revoke_apikey', 'Can revoke API keys'),
                ],
            },
        ),
        migrations.CreateModel(
            name='AuditEntry',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('at', models.DateTimeField(db_index=True)),
                ('actor', models.TextField()),
                ('action', models.TextField()),
                ('target_type', models.TextField(blank=True, default='')),
                ('target_id', models.TextField(blank=True, default='')),
                ('reason', models.TextField(blank=True, default='')),
                ('count', models.IntegerField(default=1)),
                ('details', models.JSONField(blank=True, default=dict)),
            ],
            options={
                'verbose_name_plural': 'audit entries',
                'ordering': ('-id',),
                'indexes': [
                    models.Index(fields=['target_type', 'target_id'], name='audit_by_target'),
                    models.Index(models.F('target_id'), models.OrderBy(models.F('id'), descending=True), name='audit_by_target_alone'),
                    models.Index(models.F('actor'), models.OrderBy(models.F('id'), descending=True), name='audit_by_actor'),
                    models.Index(models.F('action'), models.OrderBy(models.F('id'), descending=True), name='audit_by_action'),
                ],
            },
        ),
        migrations.CreateModel(
            name='IdempotencyKey',
            fields=[
                ('id', models.UUIDField(default=reliability.models.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('tenant', models.TextField(blank=True, default='')),
                ('operation', models.TextField()),
                ('key', models.TextField()),
                ('digest', models.BinaryField(max_length=32)),
                ('row_ids', django.contrib.postgres.fields.ArrayField(base_field=models.UUIDField(), blank=True, default=list, size=None)),
                ('status', models.IntegerField(default=200)),
                ('answer', models.JSONField(blank=True, null=True)),
                ('created_at', models.DateTimeField()),
            ],
            options={
                'ordering': ('-id',),
                'constraints': [
                    models.UniqueConstraint(fields=('tenant', 'operation', 'key'), name='idempotency_key_once'),
                ],
            },
        ),
        migrations.CreateModel(
            name='Flag',
            fields=[
                ('name', models.TextField(choices=[('scheduling', 'Cron jobs: pings are answered with 503'), ('dispatch', 'Dispatch: deliveries wait'), ('stripe', 'Stripe webhooks: answered with 503, so that Stripe sends them again later')], primary_key=True, serialize=False)),
                ('enabled', models.BooleanField(default=True)),
                ('reason', models.TextField(blank=True, default='')),
                ('changed_at', models.DateTimeField(blank=True, null=True)),
                ('changed_by', models.TextField(blank=True, default='')),
            ],
            options={
                'verbose_name': 'switch', 'verbose_name_plural': 'switches', 'ordering': ('name',),
                'permissions': [
                    ('switch_flag', 'Can switch parts of the service off and on'),
                ],
            },
        ),
        migrations.CreateModel(
            name='FailedSignIn',
            fields=[
            ],
            options={
                'verbose_name': 'failed sign-in',
                'permissions': [
                    ('unlock_failedsignin', 'Can unlock sign-ins'),
                ],
                'proxy': True,
                'indexes': [],
                'constraints': [],
            },
            bases=('axes.accessattempt',),
        ),
        migrations.CreateModel(
            name='LaneTotal',
            fields=[
                ('lane_id', models.IntegerField(primary_key=True, serialize=False)),
                ('workflow_id', models.UUIDField()),
                ('delivered', models.BigIntegerField(db_default=0, default=0)),
                ('dead', models.BigIntegerField(db_default=0, default=0)),
                ('retries', models.BigIntegerField(db_default=0, default=0)),
                ('retries_delivered', models.BigIntegerField(db_default=0, default=0)),
                ('results', django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), default=list, size=None)),
                ('durations', django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), default=list, size=None)),
                ('duration_ms', models.BigIntegerField(db_default=0, default=0)),
                ('latencies', django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), default=list, size=None)),
                ('latency_ms', models.BigIntegerField(db_default=0, default=0)),
            ],
            options={
                'ordering': ('lane_id',),
            },
        ),
        migrations.CreateModel(
            name='Total',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('name', models.TextField()),
                ('key', models.TextField(blank=True, default='')),
                ('lane_id', models.IntegerField(default=0)),
                ('label', models.TextField(blank=True, default='')),
                ('shard', models.SmallIntegerField(default=0)),
                ('count', models.BigIntegerField(default=0)),
            ],
            options={
                'ordering': ('name', 'key', 'lane_id', 'label', 'shard'),
                'constraints': [
                    models.UniqueConstraint(fields=('name', 'key', 'lane_id', 'label', 'shard'), name='total_once'),
                ],
            },
        ),
        migrations.CreateModel(
            name='Rollup',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('lane', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='rollups', to='reliability.lane')),
                ('grain', models.TextField(choices=[('minute', 'Minute'), ('hour', 'Hour')])),
                ('at', models.DateTimeField()),
                ('delivered', models.IntegerField(default=0)),
                ('dead', models.IntegerField(default=0)),
                ('attempts', models.IntegerField(default=0)),
                ('failures', models.IntegerField(default=0)),
                ('retries', models.IntegerField(db_default=0, default=0)),
                ('retries_delivered', models.IntegerField(db_default=0, default=0)),
                ('latency', django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField(), default=list, size=None)),
            ],
            options={
                'ordering': ('-at',),
                'constraints': [
                    models.UniqueConstraint(fields=('grain', 'at', 'lane'), name='rollup_once'),
                ],
            },
        ),
        migrations.CreateModel(
            name='DeathRollup',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('lane', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='death_rollups', to='reliability.lane')),
                ('grain', models.TextField(choices=[('minute', 'Minute'), ('hour', 'Hour')])),
                ('at', models.DateTimeField()),
                ('reason', models.TextField()),
                ('count', models.IntegerField(default=0)),
            ],
            options={
                'ordering': ('-at',),
                'constraints': [
                    models.UniqueConstraint(fields=('grain', 'at', 'lane', 'reason'), name='death_rollup_once'),
                ],
            },
        ),
        migrations.CreateModel(
            name='FailureGroup',
            fields=[
                ('id', models.UUIDField(default=reliability.models.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('workflow', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='failure_groups', to='reliability.workflow')),
                ('fingerprint', models.TextField()),
                ('reason', models.TextField()),
                ('code', models.TextField(blank=True, default='')),
                ('message', models.TextField(blank=True, default='')),
                ('dead', models.IntegerField(default=0)),
                ('seen', models.IntegerField(default=0)),
                ('first_at', models.DateTimeField()),
                ('last_at', models.DateTimeField()),
            ],
            options={
                'ordering': ('-dead',),
                'indexes': [
                    models.Index(models.OrderBy(models.F('dead'), descending=True), condition=models.Q(('dead__gt', 0)), name='failure_group_by_size'),
                ],
                'constraints': [
                    models.UniqueConstraint(fields=('workflow', 'fingerprint'), name='failure_group_once'),
                ],
            },
        ),
        migrations.CreateModel(
            name='WorkerFigure',
            fields=[
                ('worker', models.TextField(primary_key=True, serialize=False)),
                ('memory_bytes', models.BigIntegerField()),
                ('cpu_seconds', models.FloatField()),
                ('seen_at', models.DateTimeField()),
            ],
            options={
                'ordering': ('worker',),
            },
        ),
        migrations.CreateModel(
            name='ProcessSample',
            fields=[
                ('name', models.TextField(primary_key=True, serialize=False)),
                ('cpu_seconds', models.FloatField()),
                ('share', models.FloatField(blank=True, null=True)),
                ('at', models.DateTimeField()),
            ],
            options={
                'ordering': ('name',),
            },
        ),
        migrations.CreateModel(
            name='Alert',
            fields=[
                ('id', models.UUIDField(default=reliability.models.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('name', models.TextField()),
                ('workflow', models.TextField(blank=True, default='')),
                ('tenant', models.TextField(blank=True, default='')),
                ('subject', models.TextField(blank=True, default='')),
                ('severity', models.TextField(choices=[('critical', 'critical'), ('warning', 'warning')])),
                ('state', models.TextField(choices=[('pending', 'Pending'), ('firing', 'Firing'), ('resolved', 'Resolved')])),
                ('value', models.FloatField()),
                ('limit', models.FloatField()),
                ('summary', models.TextField(blank=True, default='')),
                ('pending_since', models.DateTimeField(blank=True, null=True)),
                ('firing_since', models.DateTimeField(blank=True, null=True)),
                ('resolved_at', models.DateTimeField(blank=True, null=True)),
                ('told', models.TextField(blank=True, default='')),
                ('told_at', models.DateTimeField(blank=True, null=True)),
                ('acknowledged', models.BooleanField(default=False)),
                ('acknowledged_until', models.DateTimeField(blank=True, null=True)),
                ('acknowledged_at', models.DateTimeField(blank=True, null=True)),
                ('acknowledged_by', models.TextField(blank=True, default='')),
                ('acknowledged_reason', models.TextField(blank=True, default='')),
                ('checked_at', models.DateTimeField()),
            ],
            options={
                'ordering': ('-id',),
                'permissions': [
                    ('acknowledge_alert', 'Can acknowledge alerts'),
                    ('silence_alert', 'Can silence alerts for a time'),
                ],
                'indexes': [
                    models.Index(models.F('state'), models.OrderBy(models.F('id'), descending=True), name='alert_by_state'),
                    models.Index(models.F('workflow'), models.OrderBy(models.F('id'), descending=True), name='alert_by_workflow'),
                ],
                'constraints': [
                    models.UniqueConstraint(fields=('name', 'workflow', 'tenant', 'subject'), name='alert_once'),
                    models.CheckConstraint(condition=models.Q(('state__in', ['pending', 'firing', 'resolved'])), name='alert_state_known'),
                ],
            },
        ),
        migrations.CreateModel(
            name='AlertNotice',
            fields=[
                ('id', models.UUIDField(default=reliability.models.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('channel', models.TextField(choices=[('mail', 'Mail'), ('webhook', 'Webhook'), ('workflow', 'Workflow')])),
                ('state', models.TextField(choices=[('waiting', 'Waiting'), ('sent', 'Sent'), ('superseded', 'Superseded by a later reminder'), ('dropped', 'Dropped: channel no longer configured')], default='waiting')),
                ('changes', models.JSONField(default=list)),
                ('alert_ids', django.contrib.postgres.fields.ArrayField(base_field=models.UUIDField(), default=list, size=None)),
                ('created_at', models.DateTimeField()),
                ('attempts', models.IntegerField(default=0)),
                ('next_at', models.DateTimeField()),
                ('lease_token', models.UUIDField(blank=True, editable=False, null=True)),
                ('lease_until', models.DateTimeField(blank=True, editable=False, null=True)),
                ('sent_at', models.DateTimeField(blank=True, null=True)),
                ('delivery_id', models.UUIDField(blank=True, null=True)),
                ('error', models.TextField(blank=True, default='')),
            ],
            options={
                'verbose_name': 'notice',
                'ordering': ('-id',),
                'indexes': [
                    models.Index(models.F('next_at'), condition=models.Q(('state', 'waiting')), name='alert_notice_waiting'),
                    django.contrib.postgres.indexes.GinIndex(fields=['alert_ids'], name='alert_notice_by_alert'),
                ],
                'constraints': [
                    models.CheckConstraint(condition=models.Q(('state__in', ['waiting', 'sent', 'superseded', 'dropped'])), name='alert_notice_state_known'),
                    models.CheckConstraint(condition=models.Q(('channel__in', ['mail', 'webhook', 'workflow'])), name='alert_notice_channel_known'),
                ],
            },
        ),
        migrations.CreateModel(
            name='AlertSilence',
            fields=[
                ('id', models.UUIDField(default=reliability.models.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('alert', models.TextField(blank=True, choices=[('LightEndpointFailing', 'LightEndpointFailing'), ('LightEndpointNotPinged', 'LightEndpointNotPinged'), ('CronJobLate', 'CronJobLate'), ('BreakerOpen', 'BreakerOpen'), ('BreakerOpenLong', 'BreakerOpenLong'), ('BreakerFlapping', 'BreakerFlapping'), ('DeadLettersMany', 'DeadLettersMany'), ('DeadLettersGrowing', 'DeadLettersGrowing'), ('BacklogOld', 'BacklogOld'), ('SuccessRateLow', 'SuccessRateLow'), ('RetrySuccessLow', 'RetrySuccessLow'), ('SlotsExhausted', 'SlotsExhausted'), ('NoWorker', 'NoWorker'), ('StripeSignaturesFailing', 'StripeSignaturesFailing'), ('MemoryHigh', 'MemoryHigh'), ('CpuHigh', 'CpuHigh')], default='', help_text='Empty: all alerts.')),
                ('workflow', models.TextField(blank=True, default='', help_text="A workflow's slug. Empty: all workflows.")),
                ('until', models.DateTimeField()),
                ('reason', models.TextField()),
                ('created_at', models.DateTimeField()),
                ('created_by', models.TextField()),
            ],
            options={
                'verbose_name': 'silence',
                'ordering': ('-id',),
                'permissions': [('end_alertsilence', 'Can end silences')],
                'indexes': [
                    models.Index(models.OrderBy(models.F('until'), descending=True), name='alert_silence_by_end'),
                ],
            },
        ),
    ]
