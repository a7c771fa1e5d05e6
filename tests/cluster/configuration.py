"""The configuration of each part of the bench."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

NODE = "10.77.0.2"
PODS, SERVICES, API = "10.244.0.0/16", "10.96.0.0/16", "10.96.0.1"
PLUGINS = "/usr/lib/cni"
_VOLUMES = 24

Config = dict[str, Any]

CONTAINERD = """
version = 2
root = "{folder}/containerd"
state = "{folder}/containerd-state"
[grpc]
  address = "{folder}/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  # Where the machine does not let us lower it.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
"""
COREDNS = """.:53 {{
    errors
    kubernetes cluster.local {{
        kubeconfig {kubeconfig}
    }}
}}
"""


def kubeconfig(authority: str, token: str) -> Config:
    """The administrator's.

    Args:
        authority: the API server's, in base64.
        token: the administrator's.
    """
    cluster = {"server": f"https://{NODE}:6443", "certificate-authority-data": authority}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "bench",
        "clusters": [{"name": "bench", "cluster": cluster}],
        "users": [{"name": "administrator", "user": {"token": token}}],
        "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "administrator"}}],
    }


def api_server(folder: Path) -> list[str]:
    """Its flags."""
    return [
        "--etcd-servers=http://127.0.0.1:2379",
        f"--advertise-address={NODE}",
        f"--service-cluster-ip-range={SERVICES}",
        f"--token-auth-file={folder}/tokens.csv",
        f"--tls-cert-file={folder}/server.pem",
        f"--tls-private-key-file={folder}/server.pem",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={folder}/accounts.key",
        f"--service-account-signing-key-file={folder}/accounts.key",
        "--authorization-mode=RBAC",
        "--kubelet-preferred-address-types=InternalIP",
        "--allow-privileged",
    ]


def network() -> Config:
    """Of pods, for the CNI plugins."""
    bridge = {
        "type": "bridge",
        "bridge": "pods0",
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": {"type": "host-local", "ranges": [[{"subnet": PODS}]], "routes": [{"dst": "0.0.0.0/0"}]},
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge, ports]}


def kubelet(folder: Path) -> Config:
    """A KubeletConfiguration."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE,
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{folder.name}",
        "containerRuntimeEndpoint": f"unix://{folder}/containerd.sock",
        "clusterDNS": [NODE],
        "clusterDomain": "cluster.local",
        "resolvConf": "",
        "failSwapOn": False,
        "podLogsDir": f"{folder}/logs",
        "volumePluginDir": f"{folder}/volume-plugins",
        # A removed image could not be pulled again.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "1%", "nodefs.available": "1%", "imagefs.available": "1%"},
    }


def kube_proxy(folder: Path) -> Config:
    """A KubeProxyConfiguration."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clusterCIDR": PODS,
        "hostnameOverride": "node",
        "clientConnection": {"kubeconfig": f"{folder}/kubeconfig"},
        # The bench must not resize the machine's tables.
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }


def volumes(folder: Path) -> Iterator[Config]:
    """A default storage class, and volumes: folders of the node."""
    yield {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "bench", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
    }
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": ["node"]}
    for number in range(_VOLUMES):
        path = folder / "volumes" / str(number)
        path.mkdir(parents=True)
        yield {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"volume-{number}"},
            "spec": {
                "capacity": {"storage": "5Gi"},
                "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain",
                "storageClassName": "bench",
                "local": {"path": str(path)},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
            },
        }
