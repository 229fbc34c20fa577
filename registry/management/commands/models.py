from typing import Any

from rich.table import Table

from cachemgr.units import format_bytes
from homelab.shell import ShellCommand
from registry.models import ModelRegistry
from registry.serializers import ModelSerializer
from registry.services import cache_path_of


class Command(ShellCommand):
    help = "Lists the registered models: where they live, how large they are, and whether they can be used."

    def run(self, **_: Any) -> None:
        models = list(ModelRegistry.objects.all())
        if self.as_json:
            return self.print_json(ModelSerializer(models, many=True).data)
        if not models:
            return self.console.print("No model is registered. Start with: manage.py register NAME HUB_REPO")
        table = Table("Model", "Hub repo", "Cache", "Size", "State", "Lives in", box=None, padding=(0, 2))
        for model in models:
            size = format_bytes(model.size_bytes) if model.size_bytes else "unknown"
            table.add_row(
                model.model_name, model.hf_path, model.cache_location, size, model.status, cache_path_of(model)
            )
        self.console.print(table)
