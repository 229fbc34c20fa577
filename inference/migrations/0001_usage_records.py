import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('registry', '0006_serving'),
    ]

    operations = [
        migrations.CreateModel(
            name='UsageRecord',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('request', 'Request'), ('load', 'Load')], max_length=8)),
                ('model_name', models.CharField(help_text='As it was called then.', max_length=96)),
                ('cache_location', models.CharField(blank=True, choices=[('primary', 'Primary (Fast SSD)'), ('secondary', 'Secondary (Slower Drive)'), ('custom', 'Custom Path')], max_length=16)),
                ('cache_path', models.CharField(blank=True, help_text='The cache that it was read from.', max_length=1024, verbose_name='cache')),
                ('started_at', models.DateTimeField()),
                ('duration_seconds', models.FloatField(help_text='Until the last token, the error, or until the client left.')),
                ('status', models.CharField(choices=[('ok', 'Ok'), ('error', 'Error'), ('left', 'client left')], max_length=8)),
                ('error_code', models.CharField(blank=True, max_length=64)),
                ('endpoint', models.CharField(blank=True, max_length=64)),
                ('is_streamed', models.BooleanField(default=False)),
                ('was_cold', models.BooleanField(default=False, help_text='It waited for the model to be loaded.')),
                ('prompt_tokens', models.PositiveIntegerField(null=True)),
                ('completion_tokens', models.PositiveIntegerField(null=True)),
                ('first_token_seconds', models.FloatField(null=True)),
                ('tokens_per_second', models.FloatField(help_text='After the first token.', null=True)),
                ('load_seconds', models.FloatField(null=True)),
                ('stage_seconds', models.JSONField(default=dict, help_text='How long it was queued, reading, and so on.')),
                ('model', models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='usage', to='registry.modelregistry')),
            ],
            options={
                'ordering': ['-started_at', '-pk'],
                'indexes': [models.Index(fields=['-started_at', '-id'], name='usage_by_time'), models.Index(fields=['model', 'kind', 'started_at', 'status', 'prompt_tokens', 'completion_tokens'], name='usage_sums'), models.Index(condition=models.Q(('first_token_seconds__isnull', False)), fields=['model', 'was_cold', 'started_at', 'first_token_seconds', 'tokens_per_second'], name='usage_times'), models.Index(condition=models.Q(('status', 'error')), fields=['model', 'status', 'started_at', 'error_code'], name='usage_errors')],
            },
        ),
    ]
