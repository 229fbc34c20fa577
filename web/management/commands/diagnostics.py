from typing import Any

from homelab.shell import ShellCommand
from web.diagnostics import write_report


class Command(ShellCommand):
    help = "Writes the report for a bug: configuration, figures, versions and the last errors, without secrets."

    def run(self, **_: Any) -> None:
        report = write_report(presences=None)
        if self.as_json:
            return self.print_json({"report": report})
        self.stdout.write(report)
