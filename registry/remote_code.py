"""Whether the engine of a model may run the Python code of its repo: never, unless somebody with a shell allowed it for
one commit. Each file is pinned by its hash then; no form and no request can allow it."""

import logging
from collections.abc import Mapping
from dataclasses import replace

from django.db import transaction

from cachemgr.layout import COMMIT
from homelab import audit
from homelab.errors import InvalidValue
from registry.errors import HubError
from registry.estimates import ask_hub
from registry.hub import HubSnapshot
from registry.models import ModelRegistry

logger = logging.getLogger(__name__)

_HUB_SECONDS = 30.0


def allow(model: ModelRegistry, *, commit: str) -> Mapping[str, str]:
    """From its next download and load on, which are of this commit. Answers the files with their hashes. Raises
    InvalidValue, HubError."""
    if not COMMIT.fullmatch(commit):
        message = (
            f"{commit[:60]!r} is no commit: that is 40 hexadecimal digits, and a branch could be another one tomorrow."
        )
        raise InvalidValue(message, field="commit", code="invalid_commit")
    snapshot = ask_hub(model.hf_path, revision=commit, wait_seconds=_HUB_SECONDS)
    if snapshot.commit != commit:
        message = f"The Hub's answer for {model.hf_path} is refused: it is about {snapshot.commit}, not {commit}."
        raise HubError(message, code="hub_hostile", is_permanent=True)
    files = {file.name: file.digest for file in snapshot.code}
    if not files:
        raise InvalidValue(
            f"{model.hf_path} has no Python code at {commit[:12]}: there is nothing to allow.", field="commit"
        )
    _write(
        model,
        {"commit": commit, "files": files},
        wanted_revision=commit,
        sentence=f"Its engine may run the code of {commit}.",
    )
    logger.warning("The engine of %s may run the code of %s at %s: %s", model, model.hf_path, commit, ", ".join(files))
    return files


def revoke(model: ModelRegistry) -> None:
    """From its next load on."""
    sentence = "Its engine may run no code of its repo any more."
    _write(model, {}, wanted_revision=model.wanted_revision, sentence=sentence)
    logger.warning("The engine of %s may run no code of %s any more.", model, model.hf_path)


def _write(model: ModelRegistry, allowed: dict[str, object], *, wanted_revision: str, sentence: str) -> None:
    model.remote_code, model.wanted_revision = allowed, wanted_revision
    with transaction.atomic():
        ModelRegistry.objects.filter(pk=model.pk).update(remote_code=allowed, wanted_revision=wanted_revision)
        audit.record_change(model, sentence)


def add_code(model: ModelRegistry, snapshot: HubSnapshot) -> HubSnapshot:
    """What is to be downloaded, with the files that were allowed for this very commit."""
    allowed = model.code_of(snapshot.commit)
    code = tuple(file for file in snapshot.code if allowed.get(file.name) == file.digest)
    return replace(snapshot, files=(*snapshot.files, *code))


def describe(model: ModelRegistry) -> str:
    if not model.remote_code:
        return "None of its repo is run."
    return (
        f"WARNING: its engine runs the Python code of commit {model.remote_code['commit'][:12]}. "
        f"manage.py allow_remote_code {model} --revoke ends that."
    )
