"""Load and Unload as acts of the admin, with their plans."""

from typing import Any

from cachemgr.models import Cache
from inference.services import begin_to_load, load, pool_of, unload
from inference.stats import loads_of
from registry import services
from registry.acts import Act, Line
from registry.models import ModelRegistry

_PATIENT_SECONDS = 2.0


def load_act(request: Any, *, is_patient: bool) -> Act:
    """With patience it waits a moment for the model, to tell how it went; without it only begins: for many of them."""
    begin = _load if is_patient else _begin
    return Act(
        question="Load into memory?",
        button="Load",
        icon="memory",
        explained="Models that are not in use make room for it where memory is short.",
        plan=_plan_load,
        do=lambda model: begin(request, model),
    )


def unload_act(request: Any) -> Act:
    def do(model: ModelRegistry) -> str:
        unload(model, pool=pool_of(request))
        return f"{model} is not in memory any more."

    return Act(
        question="Take out of memory?",
        button="Unload",
        icon="eject",
        explained="The next request loads it again. One that answers now is not unloaded.",
        plan=lambda model: Line(model=model, notes=("Its files stay as they are.",)),
        do=do,
    )


def _plan_load(model: ModelRegistry) -> Line:
    return Line(
        model=model,
        way=services.cache_path_of(model),
        size_bytes=model.size_bytes or 0,
        seconds=expected_seconds(model),
    )


def expected_seconds(model: ModelRegistry) -> float | None:
    """Of a load from where it lives: as its last ones took, else by the speed of the drive. None: nobody knows."""
    path = services.cache_path_of(model)
    measured = next((each.median_seconds for each in loads_of(model) if each.cache_path == path), None)
    if measured is not None:
        return measured
    speed = Cache.objects.filter(path=path).values_list("read_bytes_per_second", flat=True).first()
    return model.size_bytes / speed if speed and model.size_bytes else None


def _load(request: Any, model: ModelRegistry) -> str:
    """Waits as long as somebody looks at a page that does nothing; the load goes on by itself."""
    try:
        load(model, pool=pool_of(request), wait_seconds=_PATIENT_SECONDS)
    except TimeoutError:
        return f"{model} is being loaded."
    return f"{model} is loaded."


def _begin(request: Any, model: ModelRegistry) -> str:
    begin_to_load(model, pool=pool_of(request))
    return f"{model} is being loaded."
