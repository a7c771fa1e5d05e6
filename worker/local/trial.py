"""What a trial in a cluster starts with: keys, and a login with a password of its own for each kind of user, in one Secret.

The chart's trial runs it before anything else. The Secret is made whole or not at all, and one that is there stays: it opens the
data that an earlier installation left.
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

# Where Kubernetes puts the token of a pod that may talk to its API.
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
SECONDS = 20.0


def secret_data(host: str) -> dict[str, str]:
    """What the chart's pods read, each its own part, and beside it the reader's identity.

    Args:
        host: where Valkey listens.
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
    """Make the Secret by the cluster's API; False where there is one of that name.

    Args:
        metadata: its own, as Kubernetes has them: name, namespace, labels.
        host: where Valkey listens.

    Raises:
        DecoderError: the API server does not answer, or refuses.
    """
    data = {name: b64encode(text.encode()).decode() for name, text in secret_data(host).items()}
    body = json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})
    token = (ACCOUNT / "token").read_text(encoding="utf-8").strip()
    context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    # Python 3.13 also asks for extensions (RFC 5280) that certificates of clusters may lack. Chain and name are verified as ever.
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
    """Make it, and say so: 0 it is there, 1 it could not be made."""
    about = json.loads(metadata)
    try:
        made = make_secret(about, host)
    except DecoderError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(f"Secret {about['name']} {'made' if made else 'is there already, and stays as it is'}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
