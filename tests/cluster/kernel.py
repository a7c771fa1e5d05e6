"""The kernel features of the bench: its own namespaces and control groups, and settings that it restores."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from tests.conftest import wait_for

_CONTROL_GROUPS = Path("/sys/fs/cgroup")
# Settings that the kubelet changes on its machine, which is ours as well.
_TUNABLES = tuple(
    Path("/proc/sys", name)
    for name in (
        "vm/overcommit_memory",
        "vm/panic_on_oom",
        "kernel/panic",
        "kernel/panic_on_oops",
        "kernel/keys/root_maxkeys",
        "kernel/keys/root_maxbytes",
    )
)


def in_namespaces(*command: str) -> list[str]:
    """The prefix that runs a command as the first process of new namespaces: they end with it, and it ends with its parent."""
    die_together = ("setpriv", "--pdeathsig", "KILL", "--")
    apart = ("unshare", "--mount", "--net", "--pid", "--mount-proc", "--fork", "--kill-child", "--")
    return [*die_together, *apart, *command]


@contextmanager
def tidied(name: str) -> Iterator[None]:
    """Remove the control groups of this name at the end, and restore the machine's settings."""
    before = {file: file.read_text() for file in _TUNABLES if file.exists()}
    try:
        yield
    finally:
        for file, text in before.items():
            file.write_text(text)
        for group in _CONTROL_GROUPS.glob(f"*/{name}"):
            wait_for(partial(_removed, group), what=f"the end of {group}")


def make_control_groups(name: str) -> None:
    """Create a control group of this name in each hierarchy, as the kubelet requires."""
    for root in _CONTROL_GROUPS.iterdir():
        if (root / "tasks").exists():
            (root / name).mkdir()
            for file in ("cpuset.cpus", "cpuset.mems"):
                if (root / file).exists():
                    (root / name / file).write_text((root / file).read_text())


def furnish(address: str) -> None:
    """Set up the current namespaces: a network with this address, and folders that a node writes to."""
    for words in (
        "link set lo up",
        "link add node0 type bridge",
        f"addr add {address}/24 dev node0",
        "link set node0 up",
    ):
        subprocess.run(["ip", *words.split()], check=True)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    for folder in ("/var/log", "/var/lib/cni", "/run"):
        Path(folder).mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], check=True)
    subprocess.run(["mount", "--make-rshared", "/"], check=True)


def _removed(group: Path) -> bool:
    """Whether the group and its subgroups are gone; its processes may still be ending."""
    for path, _, _ in os.walk(group, topdown=False):
        with suppress(OSError):
            os.rmdir(path)
    return not group.exists()
