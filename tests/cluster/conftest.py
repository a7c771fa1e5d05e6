"""The session's cluster, and the table of its measurements at the end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import crds
from tests.cluster.kubernetes import Cluster
from tests.conftest import unavailable

_TIMES = pytest.StashKey[list[tuple[str, float, str]]]()


@pytest.fixture(scope="session")
def cluster(pytestconfig: pytest.Config) -> Cluster:
    """The cluster of KUBECONFIG, with images that it can pull."""
    if not {"KUBECONFIG", "CLUSTER_IMAGES", "CLUSTER_PACKAGES"} <= os.environ.keys():
        unavailable("no cluster is named: `make cluster` starts one, or takes the one of KUBECONFIG")
    cluster = Cluster()
    pytestconfig.stash[_TIMES] = cluster.times
    return cluster


@pytest.fixture(scope="session")
def definitions(cluster: Cluster) -> Iterator[None]:
    """Install the definitions of the chart's custom resources."""
    with crds.installed(cluster, Path(os.environ["CLUSTER_PACKAGES"])):
        yield


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The measurements by row: subject, duration, observation."""
    if times := config.stash.get(_TIMES, []):
        terminalreporter.section("on the cluster")
        width = max(len(what) for what, _, _ in times)
        for what, seconds, seen in times:
            terminalreporter.write_line(f"{what:{width}}  {seconds:6.1f} s  {seen}")
