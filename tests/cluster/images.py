"""The images of the cluster tests, as OCI archives: the decoder's, broken releases of it, and one with Valkey.

`python -m tests.cluster.images FOLDER` writes them and prints the path and digest of each as JSON.
"""

from __future__ import annotations

import json
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from mission.store.library import LIBRARY
from mission.store.scripts import READS, WRITES
from tests.image.build import DECODER, Buildah, build_image
from tests.image.stand_in import copy_libraries
from worker.local.embedded import server_program

_ENTRIES, _LIBRARY = "mission/store/scripts.py", "mission/store/library.py"
_READS_NEXT = (_ENTRIES, f"\nREADS = {READS}", f"\nREADS = ({READS[0]}, {WRITES + 1})")

# How a release's source differs from this tree: file, text, replacement.
VARIANTS: dict[str, list[tuple[str, str, str]]] = {
    # Exits at once. Its `decoder migrate` works.
    "exits": [
        (
            "worker/commands/worker.py",
            "\n    if concurrency is not",
            "\n    raise SystemExit(1)\n    if concurrency is not",
        )
    ],
    # Works, but reports that it does not.
    "unready": [("worker/work/watchdog.py", "beat(ready=answers and", "beat(ready=False and")],
    # Reports ready, but every fetch fails.
    "fails": [("worker/work/pipeline.py", "document = self._fetch(claim,", "document = self._gone(claim,")],
    # Healthy: the release before a format change, and the release with the change and newer functions on the server.
    "reads-next": [_READS_NEXT],
    "next": [
        _READS_NEXT,
        (_ENTRIES, f"\nWRITES = {WRITES}\n", f"\nWRITES = {WRITES + 1}\n"),
        (_LIBRARY, f"\nLIBRARY = {LIBRARY}\n", f"\nLIBRARY = {LIBRARY + 1}\n"),
    ],
}


@dataclass(frozen=True, slots=True)
class Archive:
    """An image in an OCI archive."""

    archive: str
    digest: str


def write_images(folder: Path, image: str | None = None) -> dict[str, Archive]:
    """Write all images into an existing folder.

    Args:
        folder: the target.
        image: the decoder's, built from this tree and in a registry; without one it is built on the stand-in base.
    """
    with tempfile.TemporaryDirectory(dir=folder) as name:
        scratch = Path(name)
        if image:
            buildah = Buildah(scratch)
            decoder = buildah("pull", "--quiet", f"docker://{image}")
        else:
            buildah, decoder = build_image(scratch), DECODER
        images = {"decoder": _write(buildah, buildah("from", decoder), folder / "decoder.tar")}
        images["valkey"] = _write(buildah, _valkey(buildah), folder / "valkey.tar")
        for variant, changes in VARIANTS.items():
            container = _changed(buildah, buildah("from", decoder), changes)
            images[variant] = _write(buildah, container, folder / f"{variant}.tar")
    return images


def write_pause(program: Path, archive: Path) -> Archive:
    """An image of one program, which holds a pod's namespaces."""
    with tempfile.TemporaryDirectory(dir=archive.parent) as scratch:
        buildah = Buildah(Path(scratch))
        container = buildah("from", "scratch")
        buildah("copy", container, program, "/pause")
        buildah("config", "--entrypoint", '["/pause"]', container)
        return _write(buildah, container, archive)


def push(images: Mapping[str, Archive], registry: str) -> dict[str, str]:
    """Push them to a registry (with a folder); return the name of each for a cluster, `repository@sha256:…`."""
    named = {}
    for name, image in images.items():
        with tempfile.TemporaryDirectory(dir=Path(image.archive).parent) as scratch:
            buildah, digest = Buildah(Path(scratch)), Path(scratch, "digest")
            pulled = buildah("pull", "--quiet", f"oci-archive:{image.archive}")
            buildah("push", "--quiet", "--digestfile", digest, pulled, f"docker://{registry}/{name}:cluster")
            named[name] = f"{registry}/{name}@{digest.read_text().strip()}"
    return named


def _changed(buildah: Buildah, container: str, changes: list[tuple[str, str, str]]) -> str:
    (packages,) = Path(buildah("mount", container)).glob("opt/decoder/lib/python3.*/site-packages")
    for name, text, other in changes:
        file = packages / name
        source = file.read_text()
        assert source.count(text) == 1, (name, text)
        file.write_text(source.replace(text, other))
        for compiled in file.parent.glob(f"__pycache__/{file.stem}.*.pyc"):
            compiled.unlink()
    return container


def _valkey(buildah: Buildah) -> str:
    """The server at the chart's path, and the tools with which the runbook checks its disk."""
    container = buildah("from", "scratch")
    root = Path(buildah("mount", container))
    programs = root / "usr/bin"
    programs.mkdir(parents=True)
    for name, source in (("valkey-server", server_program()), ("df", Path("/usr/bin/df"))):
        shutil.copy(source, programs / name)
        (programs / name).chmod(0o755)
    copy_libraries(root, programs.iterdir())
    buildah("config", "--env", "PATH=/usr/bin", "--user", "65532:65532", container)
    return container


def _write(buildah: Buildah, container: str, archive: Path) -> Archive:
    buildah("commit", "--quiet", "--rm", "--format", "oci", container, f"oci-archive:{archive}")
    with tarfile.open(archive) as tar:
        index = tar.extractfile("index.json")
        assert index is not None
        (manifest,) = json.load(index)["manifests"]
    return Archive(str(archive), manifest["digest"])


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    print(json.dumps({name: asdict(archive) for name, archive in write_images(folder.resolve()).items()}, indent=2))
