"""The trial: one command in an empty namespace, the commands of its notes, and the objects left after its removal."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import pytest
import requests

from tests.chart.rendering import CHART
from tests.cluster.kubernetes import Cluster, CommandFailed
from tests.conftest import wait_for
from tests.processes import started

pytestmark = [pytest.mark.full, pytest.mark.timeout(600)]

RELEASE = "decoder"
KINDS = "all,configmap,secret,serviceaccount,role,rolebinding,networkpolicy,poddisruptionbudget,persistentvolumeclaim"
# Kubernetes' own, in every namespace.
OWN = {"configmap/kube-root-ca.crt", "serviceaccount/default"}
KEPT = {"secret/decoder-secrets", "persistentvolumeclaim/data-decoder-valkey-0"}

_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial in a namespace that enforces Pod Security `restricted`."""

    cluster: Cluster
    namespace: str

    def helm(self, *words: str) -> str:
        return self.cluster.helm(*words, "--namespace", self.namespace)

    def kubectl(self, *words: str) -> str:
        return self.cluster.kubectl("--namespace", self.namespace, *words)

    def install(self, action: str = "install") -> None:
        images = []
        for path, image in (("image", self.cluster.image), ("valkey.image", self.cluster.images["valkey"])):
            repository, _, digest = image.partition("@")
            images += ["--set", f"{path}.repository={repository},{path}.digest={digest}"]
        self.helm(
            *(action, RELEASE, str(CHART), "--values", str(CHART / "values-trial.yaml"), *images),
            *("--wait", "--timeout", "4m"),
        )

    def typed(self, first: str, last: str) -> str:
        """Run the lines of the notes from one that starts with `first` to one that contains `last`; return their output."""
        notes = self.helm("get", "notes", RELEASE)
        (lines,) = re.findall(rf"^  {re.escape(first)}.*?{re.escape(last)}.*?$", notes, re.MULTILINE | re.DOTALL)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", lines], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, f"$ {lines}\n{done.stdout}{done.stderr}"
        return done.stdout

    def send_and_read(self) -> str:
        """Send a mission and read its result, as the notes say."""
        return self.typed("id=$(", "mission reveal")

    def remains(self) -> set[str]:
        """The objects in a namespace, without those of Kubernetes itself."""
        names = self.kubectl("get", KINDS, "--output=name").split()
        return set(names) - OWN

    def keys(self) -> object:
        return self.cluster.get("secret/decoder-secrets", "--namespace", self.namespace)["data"]


@pytest.fixture
def empty(cluster: Cluster) -> Iterator[Trial]:
    trial = Trial(cluster, f"trial-{next(_numbers)}")
    cluster.kubectl("create", "namespace", trial.namespace)
    try:
        cluster.kubectl("label", "namespace", trial.namespace, "pod-security.kubernetes.io/enforce=restricted")
        yield trial
    finally:
        cluster.kubectl("delete", "namespace", trial.namespace)


def test_one_command_and_what_its_notes_say_to_type(empty: Trial) -> None:
    began = time.monotonic()
    empty.install()
    empty.cluster.times.append(("trial: helm install", time.monotonic() - began, "keys, Valkey, workers, Flower ready"))
    assert "Succeeded" in empty.helm("test", RELEASE)
    assert "correct-horse-battery-staple" in empty.send_and_read()
    flower_opens_with_the_login_of_the_notes_alone(empty)
    nothing_of_the_job_is_left(empty)
    # The level is enforced: such a pod is refused.
    with pytest.raises(CommandFailed, match="violates PodSecurity"):
        empty.kubectl("run", "root", "--image=any", "--dry-run=server")


def flower_opens_with_the_login_of_the_notes_alone(trial: Trial) -> None:
    user, _, password = (
        trial.typed(f"kubectl -n {trial.namespace} get secret", "flower-basic-auth").splitlines()[-1].partition(":")
    )
    forward = ["kubectl", "--namespace", trial.namespace, "port-forward", f"svc/{RELEASE}-flower", ":5555"]
    with started(forward, stdout=subprocess.PIPE) as forwarding:
        assert forwarding.stdout is not None
        port = re.findall(r"127\.0\.0\.1:(\d+)", forwarding.stdout.readline())[0]
        page = f"http://127.0.0.1:{port}/workers"
        assert requests.get(page, timeout=30).status_code == 401
        assert requests.get(page, auth=(user, password), timeout=30).status_code == 200
        forwarding.terminate()


def nothing_of_the_job_is_left(trial: Trial) -> None:
    assert not {name for name in trial.remains() if "trial-secret" in name}


def test_keys_and_data_outlive_the_release_and_go_by_the_command_of_the_notes(empty: Trial) -> None:
    empty.install()
    keys = empty.keys()
    ticket = empty.kubectl(
        *("exec", "deploy/decoder-trial", "-c", "producer", "--"),
        *("mission", "enqueue", "--wait", "http://127.0.0.1:8080/letter.txt"),
    )
    mission = ticket.split()[0]

    empty.install("upgrade")
    assert empty.keys() == keys
    assert "correct-horse-battery-staple" in empty.send_and_read()

    empty.helm("uninstall", RELEASE)
    wait_for(lambda: empty.remains() == KEPT, seconds=90, what="the end of its pods")

    empty.install()
    assert empty.keys() == keys
    status = empty.kubectl("exec", "deploy/decoder-trial", "-c", "producer", "--", "mission", "status", mission)
    assert "succeeded" in status
    assert "correct-horse-battery-staple" in empty.send_and_read()

    empty.typed("helm uninstall", "delete secret,pvc")
    wait_for(lambda: not empty.remains(), seconds=90, what="the end of its pods")
