from typing import Any

from django.db import migrations, models
from django.db.models import F


def read_what_was_verified(apps: Any, schema_editor: Any) -> None:
    """A reading over several nights begins anew: what its nights so far left open was not kept."""
    models_of_then = apps.get_model("registry", "ModelRegistry")
    models_of_then.objects.update(read_at=F("verified_at"), verified_up_to="")


class Migration(migrations.Migration):

    dependencies = [
        ('registry', '0003_checkups'),
    ]

    operations = [
        migrations.AddField(
            model_name='modelregistry',
            name='read_at',
            field=models.DateTimeField(blank=True, help_text='When all its bytes were last read, and none was bad.', null=True),
        ),
        migrations.AddField(
            model_name='modelregistry',
            name='unproven',
            field=models.JSONField(blank=True, default=list, help_text='Files that were read, but nobody knows their checksums.'),
        ),
        migrations.AlterField(
            model_name='modelregistry',
            name='verified_at',
            field=models.DateTimeField(blank=True, help_text='When all its bytes were last read, and compared with what they have to be.', null=True),
        ),
        migrations.AlterField(
            model_name='modelregistry',
            name='verified_up_to',
            field=models.TextField(blank=True, help_text='The file where the next reading goes on.'),
        ),
        migrations.RunPython(read_what_was_verified, migrations.RunPython.noop),
    ]
