"""Which buttons the page of a model has, by its state. Pure."""

from dataclasses import dataclass

_BUTTONS = {
    "load": ("Load", "memory"),
    "unload": ("Unload", "eject"),
    "download": ("Download", "download"),
    "move": ("Move", "drive_file_move"),
    "verify": ("Verify", "fact_check"),
    "repair": ("Repair", "build"),
    "pin": ("Pin", "keep"),
    "unpin": ("Unpin", "keep_off"),
    "remove": ("Remove", "delete"),
}
_AT_ONCE = {"load", "unload", "download", "pin", "unpin"}
"""What is taken back with a click needs no page that asks. The others show their plan."""

_BY_STATUS = {
    "registered": ("download", "move"),
    "downloading": (),
    "moving": ("load", "unload"),
    "ready": ("load", "unload", "move", "verify"),
    "missing": ("download",),
    "failed": ("download", "move"),
}


@dataclass(frozen=True, slots=True)
class Button:
    """`is_main`: what most would press now. `hint`: what it would mean, in a few words."""

    name: str
    label: str
    icon: str
    is_at_once: bool
    is_main: bool = False
    hint: str = ""


def choose_buttons(status: str, *, is_pinned: bool, has_commit: bool, is_damaged: bool, load_hint: str) -> list[Button]:
    """A model with bad files is repaired; one whose files were whole once can be."""
    names = list(_BY_STATUS.get(status, ()))
    if is_damaged:
        names = ["repair", "verify"]
    elif has_commit and status in {"ready", "missing", "failed"}:
        names.append("repair")
    names += ["unpin" if is_pinned else "pin", "remove"]
    return [_button(name, is_main=name == names[0] and len(names) > 2, load_hint=load_hint) for name in names]


def _button(name: str, *, is_main: bool, load_hint: str) -> Button:
    label, icon = _BUTTONS[name]
    hint = load_hint if name == "load" else ""
    return Button(name, label, icon, is_at_once=name in _AT_ONCE, is_main=is_main, hint=hint)
