"""What n8n and Stripe report: executions, failure reports, and the ledger of Stripe events."""

import django.contrib.postgres.fields
import django.db.models.deletion
import reliability.models.fields
import reliability.models.ids
import reliability.models.stripe
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    dependencies = [
        ('reliability', '0001_initial'),
    ]

    operations = [
        migrations.CreateModel(
            name='Execution',
            fields=[
                ('id', models.UUIDField(default=reliability.models.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('lane', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='executions', to='reliability.lane')),
                ('delivery', models.ForeignKey(blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='executions', to='reliability.delivery')),
                ('execution_id', models.TextField()),
                ('status', models.TextField(choices=[('canceled', 'Canceled'), ('crashed', 'Crashed'), ('error', 'Error'), ('new', 'New'), ('running', 'Running'), ('success', 'Success'), ('unknown', 'Unknown'), ('waiting', 'Waiting')])),
                ('duration_ms', models.IntegerField(blank=True, null=True)),
                ('settled', models.BooleanField(default=False)),
                ('reported_at', models.DateTimeField()),
            ],
            options={
                'ordering': ('-id',),
                'indexes': [
                    models.Index(models.F('lane'), models.OrderBy(models.F('id'), descending=True), name='execution_by_lane'),
                    models.Index(models.F('status'), models.OrderBy(models.F('id'), descending=True), condition=models.Q(('status', 'success'), _negated=True), name='execution_by_status'),
                    models.Index(models.F('delivery'), condition=models.Q(('delivery__isnull', False)), name='execution_by_delivery'),
                ],
                'constraints': [
                    models.UniqueConstraint(fields=('execution_id', 'lane'), name='execution_once'),
                    models.CheckConstraint(condition=models.Q(('status__in', ['canceled', 'crashed', 'error', 'new', 'running', 'success', 'unknown', 'waiting'])), name='execution_status_known'),
                ],
            },
        ),
        migrations.CreateModel(
            name='ExecutionRetry',
            fields=[
                ('id', models.UUIDField(default=reliability.models.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('dead_letter', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='execution_retries', to='reliability.deadletter')),
                ('operation', models.ForeignKey(blank=True, db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='execution_retries', to='reliability.operation')),
                ('execution_id', models.TextField()),
                ('load_workflow', models.BooleanField(default=True)),
                ('state', models.TextField(choices=[('pending', 'Pending'), ('asked', 'Requested'), ('succeeded', 'Succeeded'), ('failed', 'Failed')], default='pending')),
                ('new_execution_id', models.TextField(blank=True, default='')),
                ('error', models.TextField(blank=True, default='')),
                ('looks', models.IntegerField(default=0)),
                ('due_at', models.DateTimeField()),
                ('created_at', models.DateTimeField()),
                ('finished_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'verbose_name_plural': 'execution retries',
                'ordering': ('-id',),
                'indexes': [
                    models.Index(models.F('due_at'), condition=models.Q(('state__in', ('pending', 'asked'))), name='execution_retry_open'),
                    models.Index(models.F('execution_id'), name='execution_retry_of'),
                    models.Index(models.F('new_execution_id'), condition=models.Q(('new_execution_id', ''), _negated=True), name='execution_retry_made'),
                ],
                'constraints': [
                    models.CheckConstraint(condition=models.Q(('state__in', ['pending', 'asked', 'succeeded', 'failed'])), name='execution_retry_state_known'),
                    models.UniqueConstraint(condition=models.Q(('state__in', ('pending', 'asked'))), fields=('dead_letter',), name='execution_retry_one_open'),
                ],
            },
        ),
        migrations.CreateModel(
            name='FailureReport',
            fields=[
                ('id', models.UUIDField(default=reliability.models.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('origin', models.TextField(choices=[('error_trigger', "n8n's Error Trigger"), ('reconciled', 'Reconciliation')], default='error_trigger')),
                ('state', models.TextField(choices=[('looking_up', 'Looking up delivery'), ('joined', 'Matched to a delivery'), ('buried', 'Dead letter created'), ('refused', 'Refused')])),
                ('tenant', reliability.models.fields.SlugTextField(blank=True, default='')),
                ('for_tenant', reliability.models.fields.SlugTextField(default='default')),
                ('execution_id', models.TextField(blank=True, default='')),
                ('execution_url', models.TextField(blank=True, default='')),
                ('retry_of', models.TextField(blank=True, default='')),
                ('n8n_workflow_id', models.TextField(blank=True, default='')),
                ('n8n_workflow_name', models.TextField(blank=True, default='')),
                ('status', models.TextField(choices=[('canceled', 'Canceled'), ('crashed', 'Crashed'), ('error', 'Error'), ('new', 'New'), ('running', 'Running'), ('success', 'Success'), ('unknown', 'Unknown'), ('waiting', 'Waiting')], default='error')),
                ('mode', models.TextField(blank=True, default='')),
                ('node', models.TextField(blank=True, default='')),
                ('error_code', models.TextField(blank=True, default='')),
                ('error_message', models.TextField(blank=True, default='')),
                ('report', models.TextField(default='{}')),
                ('attempt', models.IntegerField(blank=True, null=True)),
                ('delivery', models.ForeignKey(blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='failure_reports', to='reliability.delivery')),
                ('dead_letter', models.ForeignKey(blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='failure_reports', to='reliability.deadletter')),
                ('lookups', models.IntegerField(default=0)),
                ('look_up_at', models.DateTimeField(blank=True, null=True)),
                ('reported_at', models.DateTimeField()),
            ],
            options={
                'ordering': ('-id',),
                'indexes': [
                    models.Index(models.F('delivery'), models.OrderBy(models.F('id'), descending=True), condition=models.Q(('delivery__isnull', False)), name='failure_by_delivery'),
                    models.Index(models.F('dead_letter'), condition=models.Q(('dead_letter__isnull', False)), name='failure_by_dead_letter'),
                    models.Index(models.F('look_up_at'), condition=models.Q(('state', 'looking_up')), name='failure_looking_up'),
                    models.Index(models.F('state'), models.OrderBy(models.F('id'), descending=True), name='failure_by_state'),
                    models.Index(models.F('error_code'), models.OrderBy(models.F('id'), descending=True), name='failure_by_code'),
                    models.Index(models.F('n8n_workflow_id'), condition=models.Q(('execution_id', '')), name='failure_of_trigger'),
                ],
                'constraints': [
                    models.UniqueConstraint(condition=models.Q(('execution_id', ''), _negated=True), fields=('execution_id', 'n8n_workflow_id', 'tenant'), name='failure_report_once'),
                    models.CheckConstraint(condition=models.Q(('state__in', ['looking_up', 'joined', 'buried', 'refused'])), name='failure_report_state_known'),
                ],
            },
        ),
        migrations.CreateModel(
            name='StripeEndpoint',
            fields=[
                ('id', models.UUIDField(default=reliability.models.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('slug', reliability.models.fields.SlugTextField(unique=True)),
                ('tenant', reliability.models.fields.SlugTextField(default='default')),
                ('mode', models.TextField(choices=[('any', 'Live and test'), ('live', 'Live'), ('test', 'Test')], default='any')),
                ('account', models.TextField(blank=True, default='', help_text='The Stripe account (acct_…) whose events this endpoint receives. Optional.')),
                ('api_key', reliability.models.fields.EncryptedTextField(blank=True, default='', help_text='A restricted key with read access to events, for reconciliation. Stored encrypted.')),
                ('enabled', models.BooleanField(default=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
            ],
            options={
                'verbose_name': 'Stripe endpoint',
                'ordering': ('slug',),
                'constraints': [
                    models.CheckConstraint(condition=models.Q(('mode__in', ['any', 'live', 'test'])), name='stripe_endpoint_mode_known'),
                ],
            },
        ),
        migrations.CreateModel(
            name='StripeSecret',
            fields=[
                ('id', models.UUIDField(default=reliability.models.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('endpoint', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='secrets', to='reliability.stripeendpoint')),
                ('secret', reliability.models.fields.EncryptedTextField(help_text='Stored encrypted, never shown again.', validators=[reliability.models.stripe._sound_secret])),
                ('hint', models.TextField(blank=True, default='', editable=False)),
                ('active', models.BooleanField(default=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('retired_at', models.DateTimeField(blank=True, editable=False, null=True)),
            ],
            options={
                'verbose_name': 'Stripe secret',
                'ordering': ('-id',),
            },
        ),
        migrations.CreateModel(
            name='StripeEvent',
            fields=[
                ('id', models.UUIDField(default=reliability.models.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('endpoint', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='events', to='reliability.stripeendpoint')),
                ('secret', models.ForeignKey(blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='reliability.stripesecret')),
                ('tenant', reliability.models.fields.SlugTextField()),
                ('account', models.TextField(blank=True, default='')),
                ('livemode', models.BooleanField()),
                ('event_id', models.TextField()),
                ('type', models.TextField()),
                ('api_version', models.TextField(blank=True, default='')),
                ('object_id', models.TextField(blank=True, default='')),
                ('occurred_at', models.DateTimeField()),
                ('received_at', models.DateTimeField()),
                ('source', models.TextField(choices=[('webhook', 'Webhook'), ('reconciled', 'Reconciliation')], default='webhook')),
                ('stale', models.BooleanField(default=False)),
                ('ignored', models.TextField(blank=True, choices=[('mode', 'mode mismatch'), ('ping', 'connection test')], default='')),
                ('delivery_ids', django.contrib.postgres.fields.ArrayField(base_field=models.UUIDField(), blank=True, default=list, size=None)),
                ('payload', models.TextField(blank=True)),
                ('scrubbed_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'verbose_name': 'Stripe event',
                'ordering': ('-id',),
                'indexes': [
                    models.Index(models.F('object_id'), models.F('tenant'), models.OrderBy(models.F('occurred_at'), descending=True), condition=models.Q(('object_id', ''), _negated=True), name='stripe_event_by_object'),
                    models.Index(models.F('id'), condition=models.Q(('scrubbed_at__isnull', True)), name='stripe_event_unscrubbed'),
                    models.Index(models.F('type'), models.OrderBy(models.F('id'), descending=True), name='stripe_event_by_type'),
                    models.Index(models.F('endpoint'), models.OrderBy(models.F('id'), descending=True), name='stripe_event_by_endpoint'),
                    models.Index(models.OrderBy(models.F('id'), descending=True), condition=models.Q(('livemode', False)), name='stripe_event_test'),
                    models.Index(models.OrderBy(models.F('id'), descending=True), condition=models.Q(('stale', True)), name='stripe_event_stale'),
                    models.Index(models.F('ignored'), models.OrderBy(models.F('id'), descending=True), condition=models.Q(('ignored', ''), _negated=True), name='stripe_event_ignored'),
                    models.Index(models.OrderBy(models.F('id'), descending=True), condition=models.Q(('source', 'reconciled')), name='stripe_event_reconciled'),
                ],
                'constraints': [
                    models.UniqueConstraint(fields=('event_id', 'tenant', 'account', 'livemode'), name='stripe_event_once'),
                ],
            },
        ),
        migrations.CreateModel(
            name='StripeRepeat',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('event', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='repeats', to='reliability.stripeevent')),
                ('received_at', models.DateTimeField()),
            ],
            options={
                'verbose_name': 'duplicate Stripe event',
                'ordering': ('-id',),
            },
        ),
        migrations.CreateModel(
            name='StripeRefusal',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('slug', models.TextField()),
                ('reason', models.TextField()),
                ('address', models.TextField(blank=True, default='')),
                ('count', models.IntegerField(default=1)),
                ('at', models.DateTimeField()),
            ],
            options={
                'verbose_name': 'refused Stripe request',
                'ordering': ('-id',),
                'indexes': [
                    models.Index(models.F('reason'), models.OrderBy(models.F('at'), descending=True), name='stripe_refusal_by_kind'),
                    models.Index(models.F('slug'), models.OrderBy(models.F('at'), descending=True), name='stripe_refusal_by_slug'),
                ],
            },
        ),
        migrations.CreateModel(
            name='StripeClaim',
            fields=[
                ('id', models.UUIDField(default=reliability.models.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('tenant', reliability.models.fields.SlugTextField()),
                ('account', models.TextField(blank=True, default='')),
                ('livemode', models.BooleanField(default=True)),
                ('event_id', models.TextField()),
                ('workflow', models.TextField(blank=True, default='')),
                ('status', models.TextField(choices=[('processing', 'Processing'), ('processed', 'Processed'), ('failed', 'Failed')], default='processing')),
                ('fencing_token', models.BigIntegerField(default=1)),
                ('lease_until', models.DateTimeField()),
                ('result', models.JSONField(blank=True, null=True)),
                ('error', models.TextField(blank=True, default='')),
                ('holder', models.TextField(blank=True, default='')),
                ('created_at', models.DateTimeField()),
                ('finished_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'verbose_name': 'Stripe claim',
                'ordering': ('-id',),
                'indexes': [
                    models.Index(models.F('status'), models.OrderBy(models.F('id'), descending=True), condition=models.Q(('status', 'processed'), _negated=True), name='stripe_claim_open'),
                ],
                'constraints': [
                    models.UniqueConstraint(fields=('event_id', 'tenant', 'account', 'livemode', 'workflow'), name='stripe_claim_once'),
                    models.CheckConstraint(condition=models.Q(('status__in', ['processing', 'processed', 'failed'])), name='stripe_claim_status_known'),
                ],
            },
        ),
    ]
