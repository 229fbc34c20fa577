"""What a model needs in memory, and where it goes: from its folder, the choices made for it, and the devices there are.

Pure. The plan is made before anything is started; the engine gets its numbers, and the scheduler what it takes.

    1. What was chosen is kept to: context, device, dtype, quantization. The rest has defaults.
    2. Where: one GPU if it fits there (the one with the most free memory), else several GPUs together, else the CPU.
    3. The cache holds one whole context, and several shorter ones where memory is free: nobody has to leave for these.
    4. Where it fits nowhere and nobody chose the context, the context is halved, down to 2048 tokens; that is noted.
    5. On each step, what is free now counts first, and then what idle and busy models would give back.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product

from cachemgr.units import format_bytes
from homelab.errors import HomelabError
from inference.drafts import Draft, MemoryPlan, list_contexts
from inference.facts import ModelFacts
from inference.footprint import can_batch
from inference.places import QUANTIZATIONS, Choices, Device, Share, find_places

__all__ = ["Choices", "Device", "MemoryPlan", "Share", "UnservableChoice", "plan_memory"]
_NO_GPU = "No GPU has room for it, so it runs on the CPU, which is slow."


class UnservableChoice(HomelabError):
    """A setting of a model that this machine cannot follow; the message says which would do."""

    code = "unservable_choice"
    status = 400


def plan_memory(facts: ModelFacts, *, choices: Choices, devices: Sequence[Device]) -> MemoryPlan:
    """The best plan that fits, or else one that does not, with ways out. Raises UnservableChoice.

    `devices`: all there are, the CPU among them, with what others hold of each.
    """
    check_choices(choices, devices=devices)
    if plan := _find_fitting(facts, choices=choices, devices=devices):
        is_second_choice = plan.device == "cpu" != choices.device and len(devices) > 1
        return replace(plan, notes=(*plan.notes, _NO_GPU)) if is_second_choice else plan
    refused = _plan_anyway(facts, choices=choices, devices=devices)
    return replace(refused, fits=False, ways_out=tuple(_find_ways_out(facts, choices=choices, devices=devices)))


def check_choices(choices: Choices, *, devices: Sequence[Device]) -> None:
    """Raises UnservableChoice for a device that is not there, and for what the CPU cannot do."""
    names = {device.name for device in devices}
    there_is = "this machine has " + ", ".join(f"{device.name} ({device.label})" for device in devices)
    has_gpu = any(device.is_gpu for device in devices)
    if choices.device.startswith("cuda:") and choices.device not in names:
        raise UnservableChoice(f"The device {choices.device} is not there: {there_is}.")
    if choices.device in {"cuda", "balanced"} and not has_gpu:
        raise UnservableChoice(f"The device {choices.device!r} needs a GPU: {there_is}.")
    if choices.is_quantized and (choices.device == "cpu" or not has_gpu):
        raise UnservableChoice(
            f"Weights are quantized to {choices.quantization} on a GPU only: {there_is}. Choose no quantization."
        )


def _find_fitting(facts: ModelFacts, *, choices: Choices, devices: Sequence[Device]) -> MemoryPlan | None:
    """The first in the order of preference."""
    contexts = list_contexts(facts, choices=choices)
    for tiers in find_places(choices, devices=devices):
        for context_length, places, after_others_left in product(contexts, tiers, (False, True)):
            for place in places:
                draft = Draft(facts, choices, place, context_length)
                if plan := draft.fit(after_others_left=after_others_left):
                    return plan
    return None


def _plan_anyway(facts: ModelFacts, *, choices: Choices, devices: Sequence[Device]) -> MemoryPlan:
    """Where there is most, with as little as possible."""
    places = [place for tiers in find_places(choices, devices=devices) for tier in tiers for place in tier]
    roomiest = max(places, key=lambda place: sum(device.total_bytes for device in place.devices))
    shortest = list_contexts(facts, choices=choices)[-1]
    return Draft(facts, choices, roomiest, shortest).with_least_cache


def _find_ways_out(facts: ModelFacts, *, choices: Choices, devices: Sequence[Device]) -> Iterator[str]:
    """Other choices that would do, each as a sentence."""
    for words, variants in _list_variants(facts, choices=choices, devices=devices):
        for each in variants:
            if plan := _find_fitting(facts, choices=each, devices=devices):
                needs = " and ".join(f"{format_bytes(size)} on {name}" for name, size in plan.needs.items())
                yield f"{words.format(plan)} it needs {needs}."
                break


def _list_variants(
    facts: ModelFacts, *, choices: Choices, devices: Sequence[Device]
) -> Iterator[tuple[str, list[Choices]]]:
    contexts = list_contexts(facts, choices=replace(choices, context_length=None))
    shorter = [length for length in contexts if length < (choices.context_length or 0)]
    yield "With a context of {0.context_length} tokens", [replace(choices, context_length=each) for each in shorter]
    if choices.parallel_requests != 1 and can_batch(facts):
        yield "With one request at a time", [replace(choices, parallel_requests=1)]
    can_quantize = any(device.is_gpu for device in devices) and not facts.architecture.quantization_method
    if can_quantize and not choices.is_quantized and choices.device != "cpu":
        yield "With quantization to {0.quantization}", [replace(choices, quantization=each) for each in QUANTIZATIONS]
    if choices.device != "auto":
        yield "On the device {0.device}", [replace(choices, device="auto")]
