from typing import Any

from django.contrib.staticfiles.management.commands import collectstatic

from homelab.static_files import CollectedFiles


class Command(collectstatic.Command):
    help = "Collects the files for browsers, compressed. script/setup does it. Older ones stay, for a running server."

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.storage = CollectedFiles()
