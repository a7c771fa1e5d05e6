"""A single-node Kubernetes on this machine: etcd to kube-proxy, containerd, an address for each pod.

It runs in its own namespaces (`kernel.py`), so nothing reaches it from outside, and its processes end with it. A bench, not an
example: every part acts as cluster administrator, and the network enforces no policies.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.cluster import configuration
from tests.cluster.configuration import API, NODE, PLUGINS, Config
from tests.cluster.kernel import furnish, make_control_groups
from tests.conftest import wait_for
from tests.servers.certificates import Authority

_READY = "jsonpath={.items[*].status.conditions[?(@.type=='Ready')].status}"


class Bench:
    """The cluster; a context manager, to be used in separate namespaces.

    Attributes:
        kubeconfig: for kubectl and helm.

    Args:
        folder: for all its files; the control group gets the folder's name.
        kubernetes: the program of ci/cluster.
        images: archives (OCI) by the repository name of each.
        pause: the image among these that holds a pod's namespaces, `repository@sha256:…`.
        path: the PATH with kubectl.
    """

    def __init__(self, folder: Path, kubernetes: Path, images: Mapping[str, Path], pause: str, path: str) -> None:
        self._folder = folder
        self._kubernetes = kubernetes
        self._images = images
        self._pause = pause
        self._path = path
        self._parts: dict[str, tuple[list[str], subprocess.Popen[bytes]]] = {}
        self.kubeconfig = folder / "kubeconfig"

    def __enter__(self) -> Self:
        folder = self._folder
        furnish(NODE)
        make_control_groups(folder.name)
        self._write_credentials()
        self._start("etcd", f"--data-dir={folder}/etcd", "--unsafe-no-fsync", "--log-level=error")
        self._start("kube-apiserver", *configuration.api_server(folder))
        self._start_containerd()
        wait_for(lambda: self._ask(self._kubectl("get", "--raw=/readyz")) == "ok", seconds=90, what="the API server")
        account = (f"--service-account-private-key-file={folder}/accounts.key", f"--root-ca-file={folder}/ca.crt")
        alone = (f"--kubeconfig={self.kubeconfig}", "--leader-elect=false")
        self._start("kube-controller-manager", *alone, *account)
        self._start("kube-scheduler", *alone)
        for repository, archive in self._images.items():
            self._do(self._ctr("images", "import", "--digests", "--base-name", repository, str(archive)))
        self._start_kubelet()
        proxy = self._write("kube-proxy.json", configuration.kube_proxy(folder))
        self._start("kube-proxy", f"--config={proxy}")
        names = self._write("Corefile", configuration.COREDNS.format(kubeconfig=self.kubeconfig))
        self._start("coredns", "-conf", str(names))
        for item in configuration.volumes(folder):
            self._do(self._kubectl("apply", "-f", "-"), given=json.dumps(item))
        ready = self._kubectl("get", "nodes", "-o", _READY)
        wait_for(lambda: "True" in self._ask(ready), seconds=90, what="the node")
        return self

    def __exit__(self, *exc: object) -> None:
        # Pods and all other processes end with the namespaces.
        for _, process in self._parts.values():
            process.kill()
            process.wait()

    def restart_what_died(self) -> None:
        """Restart parts that ended, like a supervisor; to be called repeatedly."""
        for name, (words, process) in list(self._parts.items()):
            if process.poll() is not None:
                self._run(name, words)

    def tails(self) -> str:
        """The last lines of each part's log."""
        logs = sorted(self._folder.glob("*.log"))
        lines = {log.name: log.read_text(errors="replace").splitlines()[-8:] for log in logs}
        return "\n".join("\n".join([f"== {name}", *tail]) for name, tail in lines.items())

    def _write_credentials(self) -> None:
        authority, token = Authority(self._folder), secrets.token_hex(16)
        hosts = (NODE, "127.0.0.1", API, "kubernetes", "kubernetes.default", "kubernetes.default.svc")
        shutil.copy(authority.ca_file, self._folder / "ca.crt")
        shutil.copy(authority.certificate(*hosts), self._folder / "server.pem")
        key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
        (self._folder / "accounts.key").write_bytes(key)
        self._write("tokens.csv", f'{token},administrator,administrator,"system:masters"\n')
        ca = base64.b64encode(authority.ca_file.read_bytes()).decode()
        self._write("kubeconfig", configuration.kubeconfig(ca, token)).chmod(0o600)

    def _start_containerd(self) -> None:
        (self._folder / "cni").mkdir()
        self._write("cni/pods.conflist", configuration.network())
        text = configuration.CONTAINERD.format(folder=self._folder, plugins=PLUGINS, pause=self._pause)
        self._run("containerd", ["containerd", "--config", str(self._write("containerd.toml", text))])
        wait_for(lambda: self._ask(self._ctr("version")), what="containerd")

    def _start_kubelet(self) -> None:
        self._start(
            "kubelet",
            f"--config={self._write('kubelet.json', configuration.kubelet(self._folder))}",
            f"--kubeconfig={self.kubeconfig}",
            f"--root-dir={self._folder}/kubelet",
            f"--node-ip={NODE}",
            "--hostname-override=node",
        )

    def _start(self, part: str, *flags: str) -> None:
        self._run(part, [str(self._kubernetes), part, *flags])

    def _run(self, name: str, words: list[str]) -> None:
        env = {"PATH": f"{self._path}:{PLUGINS}", "HOME": str(self._folder)}
        with (self._folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                words, cwd=self._folder, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._parts[name] = (words, process)

    def _write(self, name: str, content: str | Config) -> Path:
        file = self._folder / name
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        return file

    def _kubectl(self, *words: str) -> list[str]:
        return ["kubectl", f"--kubeconfig={self.kubeconfig}", *words]

    def _ctr(self, *words: str) -> list[str]:
        return ["ctr", f"--address={self._folder}/containerd.sock", "--namespace=k8s.io", *words]

    def _ask(self, words: Sequence[str]) -> str:
        """A program's output; empty if it failed."""
        try:
            return self._do(words)
        except subprocess.CalledProcessError:
            return ""

    def _do(self, words: Sequence[str], given: str | None = None) -> str:
        env = {"PATH": self._path, "HOME": str(self._folder)}
        with (self._folder / "asked.log").open("a") as log:
            done = subprocess.run(
                words, env=env, input=given, stdout=subprocess.PIPE, stderr=log, text=True, timeout=120, check=True
            )
        return done.stdout


def main() -> int:
    """The first process of the namespaces: run a cluster and a command that uses it; return the command's exit code."""
    plan = json.loads(Path(sys.argv[1]).read_text())
    images = {repository: Path(archive) for repository, archive in plan["images"].items()}
    path = f"{plan['programs']}:{os.environ['PATH']}"
    bench = Bench(Path(plan["folder"]), Path(plan["kubernetes"]), images, plan["pause"], path)
    try:
        with bench:
            env = dict(os.environ) | {"KUBECONFIG": str(bench.kubeconfig), "PATH": path}
            with subprocess.Popen(plan["command"], env=env) as command:
                while command.poll() is None:
                    time.sleep(1)
                    bench.restart_what_died()
            return command.returncode
    except BaseException:
        print(bench.tails(), file=sys.stderr)
        raise


if __name__ == "__main__":
    raise SystemExit(main())
