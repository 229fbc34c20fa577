"""Files for browsers: as they lie in the sources, or as script/setup collected them: compressed, with lasting names."""

from pathlib import Path
from typing import Any

from django.contrib.staticfiles.storage import StaticFilesStorage
from servestatic.storage import CompressedManifestStaticFilesStorage


class CollectedFiles(CompressedManifestStaticFilesStorage):
    """Compressed copies whose names hold a hash of what is in them: a browser asks for each once."""

    support_js_module_import_aggregation = True
    patterns = tuple(each for each in CompressedManifestStaticFilesStorage.patterns if each[0] != "*.js")
    """Of scripts only the imports are rewritten: source maps of libraries are not here."""


def is_collected(root: Path, *, sources: Path) -> bool:
    """True where they are newer than every file of `sources`: a change is served at once, from where it was made."""
    manifest = root / CollectedFiles.manifest_name
    if not manifest.exists():
        return False
    collected_at = manifest.stat().st_mtime
    return all(path.stat().st_mtime <= collected_at for path in sources.rglob("*"))


def storages(*, is_collected: bool) -> dict[str, Any]:
    """Django's setting STORAGES."""
    files = CollectedFiles if is_collected else StaticFilesStorage
    return {
        "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
        "staticfiles": {"BACKEND": f"{files.__module__}.{files.__qualname__}"},
    }
