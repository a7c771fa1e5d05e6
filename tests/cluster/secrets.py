"""The content of an installation's secret store: the keys that a trial generates for itself, and a login of Valkey's owner."""

from __future__ import annotations

import hashlib
import json
import secrets

from mission.seal.key_files import KeyLine
from mission.seal.sealing import Identity
from tests.cluster.kubernetes import Cluster
from worker.local.trial import secret_data

# Valkey's owner has all rights. The decoder has no such login.
OWNER = "owner"
CREDENTIALS = "credentials.toml"


class SecretStore:
    """For release `decoder` with a Valkey of its own; the reader's identity stays with the tests.

    Attributes:
        data: the keys that the chart's README names, and a Redis URL for each login.

    Args:
        namespace: that of the release.
    """

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self._host = f"decoder-valkey.{namespace}.svc.cluster.local"
        self.data = secret_data(self._host)
        self.identity = Identity.from_line(KeyLine.parse(self.data.pop("identity")))
        self.owner_password = secrets.token_urlsafe(32)
        self.data[f"{OWNER}-redis-url"] = f"redis://{OWNER}:{self.owner_password}@{self._host}:6379/0"
        digest = hashlib.sha256(self.owner_password.encode()).hexdigest()
        self.data["users.acl"] += f"user {OWNER} on #{digest} ~* &* +@all\n"

    @property
    def url_key(self) -> str:
        """The URL key that producers and workers share."""
        return self.data["url-key"]

    def redis_url(self, login: str, address: str) -> str:
        """Valkey's URL for a login, from outside the cluster: through the `HOST:PORT` that a port-forward listens at."""
        return self.data[f"{login}-redis-url"].replace(f"{self._host}:6379", address)

    def apply(self, cluster: Cluster, **changed: str) -> None:
        """Create the Secret as the External Secrets Operator does from the staging values; `changed` replaces the data of some keys."""
        metadata = {"name": "decoder-secrets", "namespace": self.namespace}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": self.data | changed}
        cluster.kubectl("apply", "-f", "-", given=json.dumps(secret))

    def apply_credentials(self, cluster: Cluster, text: str) -> None:
        """Create the Secret with the credentials file."""
        metadata = {"name": "decoder-credentials", "namespace": self.namespace}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {CREDENTIALS: text}}
        cluster.kubectl("apply", "-f", "-", given=json.dumps(secret))


def credentials_for(entry: str) -> str:
    """A credentials file for one entry of the allowlist."""
    return f'["{entry}".headers]\nX-Api-Key = "{secrets.token_urlsafe(24)}"\n'
