"""The cluster that KUBECONFIG names, by its `kubectl` and `helm`."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass, field
from typing import Any

SECONDS = 420.0


class CommandFailed(AssertionError):
    """kubectl or helm ended with another code than 0; what it printed is in the message."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster, the images that it can pull, and what was measured on it.

    Attributes:
        images: by their name in tests/cluster/images.py, each `repository@sha256:…`.
        times: rows of the table at the end: what, how long in seconds, what was seen.
    """

    images: dict[str, str] = field(default_factory=lambda: json.loads(os.environ["CLUSTER_IMAGES"]))
    times: list[tuple[str, float, str]] = field(default_factory=list)

    @property
    def image(self) -> str:
        """This tree's."""
        return self.images["decoder"]

    def kubectl(self, *words: str, given: str | None = None) -> str:
        """What kubectl prints; raises CommandFailed."""
        return _run(["kubectl", *words], given)

    def helm(self, *words: str, given: str | None = None) -> str:
        """What helm prints; raises CommandFailed."""
        return _run(["helm", *words], given)

    def get(self, *words: str) -> Any:
        """An object, or a list of them, as JSON has it."""
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
