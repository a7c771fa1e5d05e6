"""`python -m tests.cluster [pytest's arguments]`: the cluster's tests, on the cluster of KUBECONFIG or on a bench on this machine.

With KUBECONFIG the images are pushed to the registry (with a folder) that CLUSTER_REGISTRY names, which the cluster pulls from. CLUSTER_IMAGE
names the decoder's where a registry has it already; else it is built. `--shell` in place of the arguments opens a shell with the bench's
kubectl and helm.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.cluster.building import build_kubernetes
from tests.cluster.configuration import PLUGINS
from tests.cluster.images import Archive, push, write_images, write_pause
from tests.cluster.kernel import in_namespaces, tidied
from tests.cluster.programs import kubectl_and_helm
from tests.conftest import unavailable
from tests.npm import node_modules

REGISTRY = "bench.invalid"


def main() -> int:
    """pytest's exit code; 0 with the reason if no cluster is possible, or 1 if CI is set."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # with the usual cleanup
    on = _on_named if "KUBECONFIG" in os.environ else _on_bench
    try:
        if lacking := _lacks_to_push() if on is _on_named else _lacks_for_bench():
            unavailable(lacking)
        with tempfile.TemporaryDirectory(prefix="decoder-cluster-") as name:
            folder = Path(name)
            for below in ("images", "npm", "programs"):
                (folder / below).mkdir()
            os.environ["CLUSTER_PACKAGES"] = str(node_modules(folder / "npm"))
            images = write_images(folder / "images", os.environ.get("CLUSTER_IMAGE"))
            return on(folder, images, _command(sys.argv[1:]))
    except (pytest.skip.Exception, pytest.fail.Exception) as lacking:
        print(f"no cluster: {lacking}", file=sys.stderr)
        return int(isinstance(lacking, pytest.fail.Exception))


def _command(arguments: list[str]) -> list[str]:
    if arguments == ["--shell"]:
        return [os.environ.get("SHELL", "/bin/sh")]
    return [sys.executable, "-m", "pytest", *(arguments or ["tests/cluster"])]


def _lacks_to_push() -> str:
    """What is missing to use the named cluster; empty if nothing is."""
    if "CLUSTER_REGISTRY" not in os.environ:
        return "KUBECONFIG names one, CLUSTER_REGISTRY has to name a registry that it pulls images from"
    return _not_on_path("buildah")


def _lacks_for_bench() -> str:
    if sys.platform != "linux" or os.geteuid() != 0:
        return "the bench takes root on Linux; KUBECONFIG and CLUSTER_REGISTRY may name another cluster"
    if not Path(PLUGINS, "bridge").exists():
        return f"no CNI plugins in {PLUGINS}"
    return _not_on_path("go", "containerd", "ctr", "runc", "buildah", "ip", "iptables", "setpriv", "unshare", "npm")


def _not_on_path(*programs: str) -> str:
    missing = [name for name in programs if shutil.which(name) is None]
    return f"not on PATH: {', '.join(missing)}" if missing else ""


def _on_named(folder: Path, images: Mapping[str, Archive], command: list[str]) -> int:
    env = _environment(push(images, os.environ["CLUSTER_REGISTRY"]))
    if _not_on_path("kubectl", "helm"):
        env["PATH"] = f"{kubectl_and_helm(folder / 'programs')}:{env['PATH']}"
    return subprocess.run(command, env=env, check=False).returncode


def _on_bench(folder: Path, images: Mapping[str, Archive], command: list[str]) -> int:
    built = build_kubernetes()
    programs = kubectl_and_helm(folder / "programs")
    everything = {**images, "pause": write_pause(built / "pause", folder / "images" / "pause.tar")}
    names = {name: f"{REGISTRY}/{name}@{image.digest}" for name, image in everything.items()}
    plan = {
        "folder": str(folder),
        "kubernetes": str(built / "kubernetes"),
        "images": {f"{REGISTRY}/{name}": image.archive for name, image in everything.items()},
        "pause": names["pause"],
        "programs": str(programs),
        "command": command,
    }
    file = folder / "plan.json"
    file.write_text(json.dumps(plan))
    inside = in_namespaces(sys.executable, "-m", "tests.cluster.bench", str(file))
    with tidied(folder.name):
        return subprocess.run(inside, env=_environment(names), check=False).returncode


def _environment(images: Mapping[str, str]) -> dict[str, str]:
    return dict(os.environ) | {"CLUSTER_IMAGES": json.dumps(images)}


if __name__ == "__main__":
    raise SystemExit(main())
