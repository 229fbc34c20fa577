"""Paths of URLs. Pure."""


def is_below(path: str, *roots: str) -> bool:
    """`/v1` and `/v1/models` are below `/v1`; `/v10` is not."""
    return any(path == root or path.startswith(f"{root}/") for root in roots)
