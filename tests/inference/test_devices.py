"""The memory of this machine as it is, of containers as the kernel writes their limits down, and of GPUs as NVML would
describe them: there is none here."""

import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from inference.cgroups import MemoryLimit, read_limits
from inference.devices import has_cuda_torch, read_devices, read_main_memory, read_taken
from inference.gpus import GpuUse, read_gpu_use, read_gpus, read_taken_on_gpus
from inference.places import Device

GB = 10**9
MIB = 2**20


def test_the_main_memory_comes_first_and_is_what_the_machine_says() -> None:
    first = read_devices()[0]
    memory = psutil.virtual_memory()
    assert first.name == "cpu"
    assert 0 < first.total_bytes <= memory.total
    assert 0 < first.free_bytes <= memory.total


def test_it_takes_milliseconds_and_no_torch() -> None:
    script = (
        "import sys, time; from inference.devices import read_devices; read_devices();"
        "t = time.process_time(); [read_devices() for _ in range(100)]; print(time.process_time() - t);"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, timeout=120)
    assert float(done.stdout) / 100 < 0.01


def test_whether_torch_knows_cuda_is_read_from_its_files() -> None:
    import torch

    assert has_cuda_torch() == (torch.version.cuda is not None)


class TestTaken:
    def test_a_process_has_its_own_pages_and_not_those_of_files(self, tmp_path: Path) -> None:
        file = tmp_path / "weights"
        file.write_bytes(bytes(64 * MIB))
        script = (
            "import mmap, sys; own = bytearray(b'x') * (32 << 20);"
            f"file = open({str(file)!r}, 'rb'); mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ);"
            "sum(mapped[::4096]); print('ready', flush=True); sys.stdin.read()"
        )
        command = [sys.executable, "-c", script]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            child.stdout.readline()
            taken = read_taken(child.pid)
            assert psutil.Process(child.pid).memory_info().rss > 96 * MIB
            child.stdin.close()
        assert 32 * MIB < taken["cpu"] < 64 * MIB

    def test_one_that_has_ended_has_nothing(self) -> None:
        child = subprocess.Popen([sys.executable, "-c", ""])
        child.wait()
        assert read_taken(child.pid) == {}


def write_group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


class TestContainers:
    """`memory__max` is the file memory.max."""

    @pytest.fixture
    def own_groups(self, tmp_path: Path) -> Path:
        return tmp_path / "cgroup"

    def test_v2_counts_without_the_files_that_are_cached(self, tmp_path: Path, own_groups: Path) -> None:
        own_groups.write_text("0::/user/app\n")
        statistics = "anon 1000\nactive_file 300\ninactive_file 200\nshmem 50"
        write_group(tmp_path / "user/app", memory__max="5000", memory__current="1600", memory__stat=statistics)
        limits = read_limits(own_groups=own_groups, mount=tmp_path)
        assert limits == [MemoryLimit(5000, 1100)]
        assert limits[0].free_bytes == 3900

    def test_v2_the_groups_above_limit_too_and_max_is_no_limit(self, tmp_path: Path, own_groups: Path) -> None:
        own_groups.write_text("0::/user/app\n")
        write_group(tmp_path / "user/app", memory__max="max", memory__current="10", memory__stat="")
        write_group(tmp_path / "user", memory__max="max", memory__high="7000", memory__current="20", memory__stat="")
        assert read_limits(own_groups=own_groups, mount=tmp_path) == [MemoryLimit(7000, 20)]

    def test_v1_has_other_names_and_a_huge_number_for_none(self, tmp_path: Path, own_groups: Path) -> None:
        own_groups.write_text("9:name=systemd:/\n4:cpu,memory:/docker/a\n0::/\n")
        usage = {"memory__usage_in_bytes": "900", "memory__stat": "active_file 1\ntotal_inactive_file 400"}
        write_group(tmp_path / "memory/docker/a", memory__limit_in_bytes="2000", **usage)
        write_group(tmp_path / "memory", memory__limit_in_bytes="9223372036854771712", **usage)
        assert read_limits(own_groups=own_groups, mount=tmp_path) == [MemoryLimit(2000, 500)]

    def test_in_a_container_its_own_group_is_the_root(self, tmp_path: Path, own_groups: Path) -> None:
        own_groups.write_text("4:memory:/docker/of-the-host\n")
        usage = {"memory__usage_in_bytes": "900", "memory__stat": ""}
        write_group(tmp_path / "memory", memory__limit_in_bytes="2000", **usage)
        assert read_limits(own_groups=own_groups, mount=tmp_path) == [MemoryLimit(2000, 900)]

    def test_a_machine_without_groups_has_no_limit(self, tmp_path: Path, own_groups: Path) -> None:
        assert read_limits(own_groups=own_groups, mount=tmp_path) == []

    def test_the_groups_of_this_process_can_be_read(self) -> None:
        assert all(limit.limit_bytes > 0 for limit in read_limits())

    def test_the_smallest_limit_is_the_memory_that_there_is(self, monkeypatch: pytest.MonkeyPatch) -> None:
        limits = [MemoryLimit(3 * GB, 2 * GB), MemoryLimit(2 * GB, GB // 2)]
        monkeypatch.setattr("inference.devices.read_limits", lambda: limits)
        expected = "main memory, limited to 2.0 GB by a cgroup"
        found = read_main_memory()
        assert (found.total_bytes, found.free_bytes, found.label) == (2 * GB, GB - round(0.02 * 2 * GB), expected)


class NvmlError(Exception):
    pass


@dataclass
class DescribedNvml:
    """The functions of NVML that we call, for cards of our own. A handle is a card's number."""

    cards: list[tuple[str, str, int, int]]
    """(UUID, name, total bytes, free bytes)"""
    used: dict[int, int | None] = field(default_factory=dict)
    error: str = ""
    busy: dict[int, int] = field(default_factory=dict)
    NVMLError: type[Exception] = NvmlError
    NVML_TEMPERATURE_GPU: int = 0

    def nvmlInit(self) -> None:
        if self.error:
            raise NvmlError(self.error)

    def nvmlDeviceGetCount(self) -> int:
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetUUID(self, handle: int) -> str:
        return self.cards[handle][0]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> int:
        return next(index for index, card in enumerate(self.cards) if card[0] == uuid)

    def nvmlDeviceGetName(self, handle: int) -> str:
        return self.cards[handle][1]

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:
        return SimpleNamespace(total=self.cards[handle][2], free=self.cards[handle][3])

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[SimpleNamespace]:
        return [SimpleNamespace(pid=7, usedGpuMemory=self.used[handle])] if handle in self.used else []

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> SimpleNamespace:
        if handle not in self.busy:
            raise NvmlError("Not Supported")
        return SimpleNamespace(gpu=self.busy[handle])

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:
        return 40 + handle


TWO_CARDS = [("GPU-aaaa-1", "RTX 3090", 24 * GB, 20 * GB), ("GPU-bbbb-2", "RTX 4060", 8 * GB, 7 * GB)]
FIRST = Device("cuda:0", 24 * GB, 20 * GB, "RTX 3090")


class TestGpus:
    def test_each_card_is_a_device_in_the_order_of_the_bus(self) -> None:
        gpus = read_gpus(library=DescribedNvml(TWO_CARDS))
        assert gpus == (FIRST, Device("cuda:1", 8 * GB, 7 * GB, "RTX 4060"))

    @pytest.mark.parametrize(
        ("visible", "names"),
        [
            ("1", ["RTX 4060"]),
            ("1,0", ["RTX 4060", "RTX 3090"]),
            ("GPU-bbbb", ["RTX 4060"]),
            ("GPU-bbbb-2, GPU-aaaa-1", ["RTX 4060", "RTX 3090"]),
            ("0,7,1", ["RTX 3090"]),
            ("", []),
            ("-1", []),
            ("none", []),
        ],
    )
    def test_cuda_visible_devices_counts_and_numbers_anew(self, visible: str, names: list[str]) -> None:
        gpus = read_gpus(library=DescribedNvml(TWO_CARDS), visible=visible)
        assert [(gpu.name, gpu.label) for gpu in gpus] == [(f"cuda:{n}", name) for n, name in enumerate(names)]

    def test_a_mig_instance_is_found_by_its_name(self) -> None:
        slices = [("MIG-cccc-3", "H100 1g.10gb", 10 * GB, 9 * GB)]
        assert read_gpus(library=DescribedNvml(slices), visible="MIG-cccc-3")[0].label == "H100 1g.10gb"

    def test_the_environment_is_asked_where_nothing_is_given(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
        assert [gpu.label for gpu in read_gpus(library=DescribedNvml(TWO_CARDS))] == ["RTX 4060"]

    def test_how_busy_a_card_is_is_none_where_the_driver_does_not_tell(self) -> None:
        assert read_gpu_use(library=DescribedNvml(TWO_CARDS, busy={0: 97})) == (
            GpuUse("RTX 3090", 24 * GB, 4 * GB, busy_percent=97, celsius=40),
            GpuUse("RTX 4060", 8 * GB, 1 * GB, busy_percent=None, celsius=41),
        )

    def test_without_a_driver_there_is_no_gpu_and_no_error(self) -> None:
        library = DescribedNvml(TWO_CARDS, error="NVML Shared Library Not Found")
        assert read_gpu_use(library=library) == ()
        assert read_gpus(library=library) == ()
        assert read_taken_on_gpus(7, library=library) == {}

    def test_the_real_library_answers_within_milliseconds(self) -> None:
        read_gpus()
        started = time.process_time()
        assert isinstance(read_gpus(), tuple)
        assert time.process_time() - started < 0.05

    def test_what_a_process_has_on_each_card_is_told_where_the_driver_tells(self) -> None:
        library = DescribedNvml(TWO_CARDS, used={0: 5 * GB, 1: None})
        assert read_taken_on_gpus(7, library=library) == {"cuda:0": 5 * GB}
        assert read_taken_on_gpus(8, library=library) == {}
