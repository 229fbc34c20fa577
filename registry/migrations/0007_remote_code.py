from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('registry', '0006_serving'),
    ]

    operations = [
        migrations.AddField(
            model_name='modelregistry',
            name='remote_code',
            field=models.JSONField(blank=True, default=dict, editable=False, help_text='One commit, and its files.'),
        ),
    ]
