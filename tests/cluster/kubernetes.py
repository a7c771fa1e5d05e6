"""The cluster of KUBECONFIG, through its `kubectl` and `helm`."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass, field
from typing import Any

SECONDS = 420.0


class CommandFailed(AssertionError):
    """kubectl or helm exited with another code than 0; the message has its output."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster, the images that it can pull, and the measurements on it.

    Attributes:
        images: by their name in tests/cluster/images.py, each `repository@sha256:…`.
        times: rows of the table at the end: subject, duration in seconds, observation.
    """

    images: dict[str, str] = field(default_factory=lambda: json.loads(os.environ["CLUSTER_IMAGES"]))
    times: list[tuple[str, float, str]] = field(default_factory=list)

    @property
    def image(self) -> str:
        """The image of this tree."""
        return self.images["decoder"]

    def kubectl(self, *words: str, given: str | None = None) -> str:
        """Run kubectl and return its output; raises CommandFailed."""
        return _run(["kubectl", *words], given)

    def helm(self, *words: str, given: str | None = None) -> str:
        """Run helm and return its output; raises CommandFailed."""
        return _run(["helm", *words], given)

    def get(self, *words: str) -> Any:
        """An object, or a list of objects, parsed from JSON."""
        return json.loads(self.kubectl("get", *words, "--output=json"))


def _run(words: list[str], given: str | None) -> str:
    done = subprocess.run(
        words,
        input=given,
        stdin=subprocess.DEVNULL if given is None else None,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    if done.returncode:
        raise CommandFailed(f"$ {' '.join(words)}\n{done.stdout}[exit code {done.returncode}]")
    return done.stdout
