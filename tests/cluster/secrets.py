"""What an installation's store of secrets holds: keys, logins and their passwords, made anew."""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass, field

from mission.seal.sealing import Identity
from mission.seal.url_keys import generate_url_key
from mission.store.acl import LOGINS, acl_lines
from tests.cluster.kubernetes import Cluster

# Whoever owns Valkey may do everything there. The decoder knows of no such login.
OWNER = "owner"


def _passwords() -> dict[str, str]:
    return {login: secrets.token_urlsafe(32) for login in (*LOGINS, OWNER)}


@dataclass(frozen=True, slots=True)
class SecretStore:
    """For release `decoder` with a Valkey of its own; the reader's key pair stays with the tests.

    Args:
        namespace: where the release is.
    """

    namespace: str
    identity: Identity = field(default_factory=Identity.generate)
    url_key: str = field(default_factory=generate_url_key)
    passwords: dict[str, str] = field(default_factory=_passwords)
    flower: str = field(default_factory=lambda: f"decoder:{secrets.token_urlsafe(16)}")

    def redis_url(self, login: str, address: str = "") -> str:
        """Valkey's URL by a login; from outside of the cluster by way of the `HOST:PORT` that a port-forward listens at."""
        address = address or f"decoder-valkey.{self.namespace}.svc.cluster.local:6379"
        return f"redis://{login}:{self.passwords[login]}@{address}/0"

    def data(self) -> dict[str, str]:
        """The keys that the chart's README names."""
        logins = ("worker", "deployer", "flower", "auditor", "producer")
        owner = f"user {OWNER} on #{hashlib.sha256(self.passwords[OWNER].encode()).hexdigest()} ~* &* +@all"
        users = [*acl_lines({login: self.passwords[login] for login in LOGINS}), owner]
        return {f"{login}-redis-url": self.redis_url(login) for login in logins} | {
            "url-key": self.url_key,
            "flower-basic-auth": self.flower,
            "users.acl": "\n".join(users) + "\n",
        }

    def apply(self, cluster: Cluster, **changed: str) -> None:
        """Make the Secret, as the External Secrets Operator would of the staging values; with other data of some keys."""
        metadata = {"name": "decoder-secrets", "namespace": self.namespace}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": self.data() | changed}
        cluster.kubectl("apply", "-f", "-", given=json.dumps(secret))
