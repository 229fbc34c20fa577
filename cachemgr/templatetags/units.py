"""Template filters for sizes and times."""

from datetime import datetime

from django import template
from django.utils import timezone
from django.utils.html import format_html

from cachemgr.units import format_bytes, format_duration

register = template.Library()
register.filter("bytes", format_bytes)
register.filter("duration", format_duration)


@register.simple_tag
def when(moment: datetime | None, *, never: str = "never") -> str:
    """ "3 min ago", with the exact time on hover; `times.js` keeps it true while the page is open."""
    if moment is None:
        return never
    exact = timezone.localtime(moment)
    words = f"{format_duration(max(0.0, (timezone.now() - moment).total_seconds()))} ago"
    return format_html(
        '<time class="hl-when" datetime="{}" title="{}">{}</time>',
        exact.isoformat(),
        f"{exact:%Y-%m-%d %H:%M:%S %Z}",
        words,
    )
