from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('registry', '0002_job_kinds'),
    ]

    operations = [
        migrations.AddField(
            model_name='modelregistry',
            name='damaged',
            field=models.JSONField(blank=True, default=list, help_text='Files that are bad: no engine loads them.'),
        ),
        migrations.AddField(
            model_name='modelregistry',
            name='verified_at',
            field=models.DateTimeField(blank=True, help_text='When all its bytes were last read and right.', null=True),
        ),
        migrations.AddField(
            model_name='modelregistry',
            name='verified_up_to',
            field=models.CharField(blank=True, help_text='The file where the next reading goes on.', max_length=255),
        ),
    ]
