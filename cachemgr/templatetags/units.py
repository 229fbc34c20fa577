"""Template filters for sizes and times."""

from django import template

from cachemgr.units import format_bytes, format_duration

register = template.Library()
register.filter("bytes", format_bytes)
register.filter("duration", format_duration)
