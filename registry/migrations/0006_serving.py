
import django.core.validators
import registry.models
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('registry', '0005_jobs_stay'),
    ]

    operations = [
        migrations.AddField(
            model_name='modelregistry',
            name='completion_tokens',
            field=models.BigIntegerField(default=0, help_text='All that it has written.'),
        ),
        migrations.AddField(
            model_name='modelregistry',
            name='context_limit',
            field=models.PositiveIntegerField(blank=True, help_text='Tokens of a chat, question and answer together. Fewer take less memory. Empty: as many as the model can, if the memory allows it.', null=True, validators=[django.core.validators.MinValueValidator(16), django.core.validators.MaxValueValidator(10000000)], verbose_name='Context length'),
        ),
        migrations.AddField(
            model_name='modelregistry',
            name='device',
            field=models.CharField(choices=[('auto', 'Automatic'), ('cpu', 'Processor (CPU)'), ('cuda', 'Any GPU'), ('balanced', 'Spread over all GPUs'), ('cuda:0', 'GPU 0'), ('cuda:1', 'GPU 1'), ('cuda:2', 'GPU 2'), ('cuda:3', 'GPU 3'), ('cuda:4', 'GPU 4'), ('cuda:5', 'GPU 5'), ('cuda:6', 'GPU 6'), ('cuda:7', 'GPU 7'), ('cuda:8', 'GPU 8'), ('cuda:9', 'GPU 9'), ('cuda:10', 'GPU 10'), ('cuda:11', 'GPU 11'), ('cuda:12', 'GPU 12'), ('cuda:13', 'GPU 13'), ('cuda:14', 'GPU 14'), ('cuda:15', 'GPU 15')], default='auto', help_text='Automatic takes a GPU where it fits, else the processor.', max_length=16, verbose_name='Runs on'),
        ),
        migrations.AddField(
            model_name='modelregistry',
            name='downloads_on_request',
            field=models.BooleanField(default=False, help_text='A chat with it may begin its download where its files are on no drive. Otherwise it is refused.', verbose_name='Download when asked'),
        ),
        migrations.AddField(
            model_name='modelregistry',
            name='dtype',
            field=models.CharField(choices=[('auto', 'Automatic'), ('float32', '32 bit (float32)'), ('bfloat16', '16 bit (bfloat16)'), ('float16', '16 bit (float16)')], default='auto', help_text='How exact its numbers are. 16 bit takes half the memory of 32 bit. Automatic is right for most.', max_length=16, verbose_name='Precision'),
        ),
        migrations.AddField(
            model_name='modelregistry',
            name='keep_alive',
            field=models.CharField(blank=True, default='', help_text='After its last request: 30s, 10m, 2h; 0 leaves at once, -1 never. Empty: as KEEP_ALIVE says.', max_length=16, validators=[registry.models.validate_keep_alive], verbose_name='Stays in memory for'),
        ),
        migrations.AddField(
            model_name='modelregistry',
            name='parallel_requests',
            field=models.PositiveIntegerField(blank=True, help_text='How many are answered together; others wait. Each takes memory for its context. Empty: the server decides.', null=True, validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(256)], verbose_name='Requests at a time'),
        ),
        migrations.AddField(
            model_name='modelregistry',
            name='preload',
            field=models.BooleanField(default=False, help_text='In memory before anybody asks, as soon as the server runs.', verbose_name='Load at start'),
        ),
        migrations.AddField(
            model_name='modelregistry',
            name='priority',
            field=models.SmallIntegerField(default=0, help_text='When memory is short, models with a lower number leave first. Most have 0.', validators=[django.core.validators.MinValueValidator(-100), django.core.validators.MaxValueValidator(100)]),
        ),
        migrations.AddField(
            model_name='modelregistry',
            name='prompt_tokens',
            field=models.BigIntegerField(default=0, help_text='All that it has read.'),
        ),
        migrations.AddField(
            model_name='modelregistry',
            name='quantization',
            field=models.CharField(blank=True, choices=[('', 'None'), ('8bit', '8 bit'), ('4bit', '4 bit')], default='', help_text='Rounded weights take a half (8 bit) or a quarter (4 bit) of the memory, and answer a little worse. It needs a GPU.', max_length=16, verbose_name='Quantization'),
        ),
    ]
