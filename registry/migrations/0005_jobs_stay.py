from typing import Any

import django.db.models.deletion
from django.db import migrations, models
from django.db.models import OuterRef, Subquery


def remember_models(apps: Any, schema_editor: Any) -> None:
    jobs, registered = apps.get_model("registry", "Job"), apps.get_model("registry", "ModelRegistry")
    model = registered.objects.filter(pk=OuterRef("model"))
    jobs.objects.update(model_name=Subquery(model.values("model_name")), hf_path=Subquery(model.values("hf_path")))


class Migration(migrations.Migration):

    dependencies = [
        ('cachemgr', '0005_emptied_trash'),
        ('registry', '0004_unproven'),
    ]

    operations = [
        migrations.AddField(
            model_name='job',
            name='model_name',
            field=models.CharField(default='', help_text='Of its model when it was asked for.', max_length=96),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name='job',
            name='hf_path',
            field=models.CharField(default='', help_text='Whose folder it works in.', max_length=200, verbose_name='Hub repo'),
            preserve_default=False,
        ),
        migrations.AlterField(
            model_name='job',
            name='model',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='jobs', to='registry.modelregistry'),
        ),
        migrations.AddField(
            model_name='job',
            name='trashed',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='cachemgr.trashedrepo'),
        ),
        migrations.RunPython(remember_models, migrations.RunPython.noop),
    ]
