import sys
from argparse import ArgumentParser
from typing import Any

from rich.markup import escape

from cachemgr import services
from cachemgr.questions import RecommendQuestionSerializer
from cachemgr.serializers import RecommendationSerializer
from cachemgr.units import format_bytes
from homelab.shell import ShellCommand


class Command(ShellCommand):
    help = "Says where a model of so many megabytes should go, and why. Exit status 1: it fits nowhere."

    def add_options(self, parser: ArgumentParser) -> None:
        parser.add_argument("estimated_size_mb", help="in MB, such as 14000")

    def run(self, *, estimated_size_mb: str, **_: Any) -> None:
        question = RecommendQuestionSerializer(data={"estimated_size_mb": estimated_size_mb})
        advice = services.recommend(required_bytes=self.checked(question)["estimated_size_mb"])
        if self.as_json:
            self.print_json(RecommendationSerializer(advice).data)
        else:
            self.console.print(f"[bold]{advice.location or 'nowhere'}[/bold]: {escape(advice.reason)}")
            for candidate in advice.would_make_room:
                self.console.print(f"  {candidate.name} ({candidate.location}): {format_bytes(candidate.size_bytes)}")
        if advice.location is None:
            sys.exit(1)
