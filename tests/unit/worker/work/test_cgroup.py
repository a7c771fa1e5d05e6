"""The memory and CPU limits that cgroups give a process, from files in the kernel's format."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.work import cgroup

GIB = 1024**3
V1 = "9:name=systemd:/\n4:cpu,memory:/pods/one\n0::/\n"
V2 = "0::/pods/one\n"


def there(folder: Path, own: str, files: dict[str, str]) -> tuple[Path, Path]:
    """The root and the process' own file."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "own").write_text(own)
    return folder, folder / "own"


@pytest.mark.parametrize(
    ("own", "files", "limit"),
    [
        (V1, {"memory/pods/one/memory.limit_in_bytes": "1073741824\n"}, GIB),
        (V1, {"memory/pods/one/memory.limit_in_bytes": "9223372036854771712\n"}, None),
        (V2, {"pods/one/memory.max": "1073741824\n"}, GIB),
        (V2, {"pods/one/memory.max": "max\n"}, None),
        (V2, {"pods/one/memory.max": "max\n", "pods/memory.max": "1073741824\n"}, GIB),
        (V2, {"pods/one/memory.max": "2147483648\n", "pods/memory.max": "1073741824\n"}, GIB),
        (V1, {"memory/memory.limit_in_bytes": "1073741824\n"}, GIB),  # in a container, whose root is its own group
        ("0::/\n", {"memory.max": "1073741824\n"}, GIB),
        ("0::/../one\n", {"memory.max": "1073741824\n"}, GIB),
        ("", {"memory.max": "1073741824\n"}, None),
    ],
)
def test_the_memory_limit_is_the_least_of_the_cgroups_above(
    own: str, files: dict[str, str], limit: int | None, tmp_path: Path
) -> None:
    assert cgroup.memory_limit(*there(tmp_path, own, files)) == limit


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        (V2, {"pods/one/cpu.max": "150000 100000\n"}, 1.5),
        (V2, {"pods/one/cpu.max": "max 100000\n"}, None),
        (V2, {"pods/one/cpu.max": "400000 100000\n", "pods/cpu.max": "50000 100000\n"}, 0.5),
        (V1, {"cpu/pods/one/cpu.cfs_quota_us": "200000\n", "cpu/pods/one/cpu.cfs_period_us": "100000\n"}, 2.0),
        (V1, {"cpu/pods/one/cpu.cfs_quota_us": "-1\n", "cpu/pods/one/cpu.cfs_period_us": "100000\n"}, None),
    ],
)
def test_the_cores_are_the_least_quota_of_the_cgroups_above(
    own: str, files: dict[str, str], cores: float | None, tmp_path: Path
) -> None:
    assert cgroup.cores(*there(tmp_path, own, files)) == cores


def test_without_a_proc_there_is_no_cgroup(tmp_path: Path) -> None:
    missing = tmp_path, tmp_path / "missing"
    assert (cgroup.memory_limit(*missing), cgroup.cores(*missing)) == (None, None)
