"""The system checks of the caches: hints at the start."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import run_checks

from cachemgr import checks
from cachemgr.models import Cache, Reservation
from homelab.launch.prepare import CannotStart, system_check_hints

GB = 10**9


@pytest.fixture
def configured(settings, tmp_path: Path) -> Path:
    """Two folders, and limits that fit any disk."""
    for name in ("PRIMARY", "SECONDARY"):
        (tmp_path / name).mkdir()
        setattr(settings, f"{name}_CACHE_PATH", tmp_path / name)
        setattr(settings, f"{name}_CACHE_LIMIT_BYTES", 10**6)
    return tmp_path


def messages(**options: Any) -> list[tuple[Any, str, Any]]:
    return [(each.id, each.msg, each.hint) for each in run_checks(**options) if each.id.startswith("cachemgr.")]


def test_whole_caches_need_no_words(configured: Path) -> None:
    assert messages() == []


@pytest.mark.parametrize(("primary", "secondary"), [("a", "a"), ("a", "a/b"), ("a/b", "a")])
def test_caches_that_overlap_are_an_error(configured: Path, settings, primary: str, secondary: str) -> None:
    (configured / "a" / "b").mkdir(parents=True)
    settings.PRIMARY_CACHE_PATH, settings.SECONDARY_CACHE_PATH = configured / primary, configured / secondary
    ((code, message, _),) = messages()
    assert code == "cachemgr.E001" and "PRIMARY_CACHE_PATH" in message and str(configured / secondary) in message


def test_a_link_to_the_other_cache_is_an_overlap(configured: Path, settings) -> None:
    (configured / "PRIMARY" / "deep").mkdir()
    (configured / "link").symlink_to(configured / "PRIMARY" / "deep")
    settings.SECONDARY_CACHE_PATH = configured / "link"
    assert [code for code, *_ in messages()] == ["cachemgr.E001"]


@pytest.mark.root
def test_a_bind_mount_of_the_other_cache_is_an_overlap_though_it_is_not_there_yet(
    configured: Path, settings, mount: Callable[..., Path]
) -> None:
    drive = mount(configured / "drive")
    (drive / "hub").mkdir()
    bound = mount(configured / "bound", bind=drive / "hub")
    for primary, secondary in ((drive / "hub", bound), (drive, bound), (drive / "hub", bound / "not yet")):
        settings.PRIMARY_CACHE_PATH, settings.SECONDARY_CACHE_PATH = primary, secondary
        assert "cachemgr.E001" in [code for code, *_ in messages()]
    settings.PRIMARY_CACHE_PATH = configured / "PRIMARY"
    assert "cachemgr.E001" not in [code for code, *_ in messages()]


@pytest.mark.root
def test_two_drives_are_told_apart_though_their_folders_have_one_name(
    configured: Path, settings, mount: Callable[..., Path]
) -> None:
    for name in ("PRIMARY", "SECONDARY"):
        (mount(configured / name) / "hub").mkdir()
        setattr(settings, f"{name}_CACHE_PATH", configured / name / "hub")
    assert messages() == []


@pytest.mark.django_db
def test_a_configured_cache_around_a_custom_one_in_use_stops_the_start(configured: Path, settings) -> None:
    custom = Cache.objects.create(location="custom", path=str(configured / "custom" / "models"))
    settings.SECONDARY_CACHE_PATH = configured / "custom"
    (configured / "custom").mkdir()
    assert system_check_hints() == []  # nothing lives there
    Reservation.objects.create(cache=custom, owner="model:1", folder="models--a", total_bytes=1, remaining_bytes=1)
    with pytest.raises(CannotStart, match=r"the custom cache .*custom/models are the same .* Set SECONDARY_CACHE_PATH"):
        system_check_hints()
    settings.SECONDARY_CACHE_PATH = configured / "SECONDARY"
    assert system_check_hints() == []


def test_neighbours_with_alike_names_do_not_overlap(configured: Path, settings) -> None:
    (configured / "PRIMARY2").mkdir()
    settings.SECONDARY_CACHE_PATH = configured / "PRIMARY2"
    assert messages() == []


def test_a_cache_that_is_missing_is_a_warning_with_the_way_out(configured: Path, settings) -> None:
    settings.SECONDARY_CACHE_PATH = Path("/mnt/no-such-drive/cache")
    ((code, message, hint),) = messages()
    assert code == "cachemgr.W001"
    assert message.startswith("/mnt/no-such-drive/cache does not exist, and no drive is mounted below /mnt on the way.")
    assert "manage.py cache_adopt secondary --create" in message
    assert "set SECONDARY_CACHE_PATH" in hint


def test_a_folder_that_we_make_ourselves_is_no_news(configured: Path, settings) -> None:
    settings.PRIMARY_CACHE_PATH = settings.DATA_DIR / "new" / "cache"
    assert messages() == [] and not settings.PRIMARY_CACHE_PATH.exists()


def test_a_limit_above_eighty_percent_of_the_disk_is_a_warning_that_its_own_advice_ends(
    configured: Path, settings
) -> None:
    total = shutil.disk_usage(configured).total
    settings.PRIMARY_CACHE_LIMIT_BYTES = int(total * 0.8) + 10**6
    ((code, message, hint),) = messages()
    assert code == "cachemgr.W002" and f"the disk of {configured}/PRIMARY" in message
    name, _, value = hint.rpartition(": ")[2].partition("=")
    assert name == "PRIMARY_CACHE_LIMIT_GB"
    settings.PRIMARY_CACHE_LIMIT_BYTES = int(float(value) * GB)
    assert 0.79 * total < settings.PRIMARY_CACHE_LIMIT_BYTES
    assert messages() == []


@pytest.mark.root
def test_the_advice_for_a_small_disk_is_not_rounded_up(configured: Path, settings, mount: Callable[..., Path]) -> None:
    mount(configured / "PRIMARY", size="200m")
    settings.PRIMARY_CACHE_LIMIT_BYTES = GB
    ((code, _, hint),) = messages()
    assert code == "cachemgr.W002" and hint.endswith("PRIMARY_CACHE_LIMIT_GB=0.167")  # 80 % of 200 MiB


def test_a_check_leaves_no_trace(configured: Path) -> None:
    checks.caches_are_there()
    assert list((configured / "PRIMARY").iterdir()) == []
