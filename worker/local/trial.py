"""Create the Secret for a trial in a cluster: keys, and a login with its own password for each role.

The chart's trial runs it first. The Secret is created as a whole or not at all. An existing Secret stays unchanged: it opens the
data of an earlier installation.
"""

from __future__ import annotations

import json
import os
import secrets
import ssl
import sys
from base64 import b64encode
from http import HTTPStatus
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any

from mission.errors import DecoderError
from mission.seal.sealing import Identity
from mission.seal.url_keys import generate_url_key
from mission.store.acl import LOGINS, acl_lines

# Kubernetes mounts the token of a pod that may use its API here.
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
SECONDS = 20.0


def secret_data(host: str) -> dict[str, str]:
    """The content of the Secret: a part for each of the chart's pods, and the reader's identity.

    Args:
        host: the host of Valkey.
    """
    identity = Identity.generate()
    passwords = {login: secrets.token_urlsafe(32) for login in LOGINS}
    urls = {f"{login}-redis-url": f"redis://{login}:{password}@{host}:6379/0" for login, password in passwords.items()}
    return urls | {
        "users.acl": "".join(f"{line}\n" for line in acl_lines(passwords)),
        "url-key": generate_url_key(),
        "recipient": identity.recipient.text,
        "identity": identity.text,
        "flower-basic-auth": f"decoder:{secrets.token_urlsafe(16)}",
    }


def make_secret(metadata: dict[str, Any], host: str) -> bool:
    """Create the Secret through the cluster's API. Return False if a Secret of that name exists.

    Args:
        metadata: the Secret's metadata in Kubernetes' form: name, namespace, labels.
        host: the host of Valkey.

    Raises:
        DecoderError: the API server does not answer, or refuses the request.
    """
    data = {name: b64encode(text.encode()).decode() for name, text in secret_data(host).items()}
    body = json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})
    token = (ACCOUNT / "token").read_text(encoding="utf-8").strip()
    context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    # Python 3.13 also requires extensions (RFC 5280) that a cluster's certificate may lack. Chain and name are still verified.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    server = HTTPSConnection(
        os.environ["KUBERNETES_SERVICE_HOST"],
        int(os.environ["KUBERNETES_SERVICE_PORT"]),
        timeout=SECONDS,
        context=context,
    )
    try:
        server.request(
            "POST",
            f"/api/v1/namespaces/{metadata['namespace']}/secrets",
            body,
            {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
        answer = server.getresponse()
        said = answer.read()
    except (OSError, HTTPException) as error:
        raise DecoderError(f"could not reach the cluster's API: {error}") from None
    finally:
        server.close()
    if answer.status == HTTPStatus.CONFLICT:
        return False
    if answer.status != HTTPStatus.CREATED:
        raise DecoderError(f"the cluster's API answers {answer.status}: {said.decode(errors='replace')}")
    return True


def main(metadata: str, host: str) -> int:
    """Create the Secret and report it. Return 0 if it exists now, 1 if it could not be created."""
    about = json.loads(metadata)
    try:
        made = make_secret(about, host)
    except DecoderError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(f"Secret {about['name']} {'created' if made else 'exists already and stays unchanged'}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
