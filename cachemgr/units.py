"""Sizes for people. 1 GB is 10^9 bytes, as on a drive's label."""

GB = 10**9
MB = 10**6

_STEPS = ((10**12, "TB"), (GB, "GB"), (MB, "MB"), (10**3, "kB"))


def format_bytes(size_bytes: float) -> str:
    """1234567890 -> "1.2 GB"."""
    for step, unit in _STEPS:
        if abs(size_bytes) >= step * 0.9995:
            value = size_bytes / step
            return f"{value:.0f} {unit}" if abs(value) >= 99.95 else f"{value:.1f} {unit}"
    return f"{size_bytes:.0f} B"


def format_percent(share: float) -> str:
    """0.9 -> "90%", 0.9042 -> "90.4%"."""
    percent = round(share * 100, 1)
    return f"{percent:.0f}%" if percent == round(percent) else f"{percent:.1f}%"


def format_duration(seconds: float) -> str:
    """7384 -> "2 h 3 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} days"
