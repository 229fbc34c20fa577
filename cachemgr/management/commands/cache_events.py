from argparse import ArgumentParser
from typing import Any

from cachemgr.questions import EventsQuestionSerializer
from cachemgr.serializers import EventSerializer
from cachemgr.stats import newest_events
from homelab.shell import ShellCommand


class Command(ShellCommand):
    help = "Lists levels that were crossed and drives that went or came back, the newest first."

    def add_options(self, parser: ArgumentParser) -> None:
        parser.add_argument("--since", help="24h, 7d, 2w, 1y, or a date such as 2026-01-31T18:00:00Z")

    def run(self, *, since: str | None, **_: Any) -> None:
        question = EventsQuestionSerializer(data={} if since is None else {"since": since})
        events = newest_events(since=self.checked(question).get("since"))
        if self.as_json:
            return self.print_json(EventSerializer(events, many=True).data)
        for event in events:
            self.console.print(f"{event.happened_at:%Y-%m-%d %H:%M} UTC  {event.message}", markup=False)
        if not events:
            self.console.print("Nothing happened.")
