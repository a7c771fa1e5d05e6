"""Send webhooks: POST each outcome, signed, to its submitter's address.

It shows `MissionClient.outcomes` with a group, and the guard that keeps requests to addresses chosen by others away from your
network. Any number of these services share the outcomes of a group. If one is killed, the others, or the same one after its
restart, send its unfinished outcomes: each outcome is sent at least once, under the same `webhook-id`.

    export DECODER_REDIS_URL=redis://producer:password@127.0.0.1:6379/0 DECODER_ALLOWED_HOSTS='*.example.com'
    python examples/webhook.py endpoints.toml

    # endpoints.toml, readable only by you: an address and a secret for each submitter; other submitters' outcomes are not sent
    [my-app]
    url = "https://hooks.example.com/decoder"
    secret = "…"  # as printed by: python examples/webhook.py --new-secret

Requests are signed by Standard Webhooks (https://www.standardwebhooks.com), which has verification libraries for many languages.
As for a worker, DECODER_ALLOWED_HOSTS, _ALLOWED_SCHEMES and _ALLOWED_NETWORKS must allow an address, and each of its IP addresses
is checked before a connection is made. Redirects are not followed. The service retries until the response is 2xx, five times
within about a minute, then reports the failure on standard error; it does not retry 410. An address that is down
occupies a thread for that time: to retry for longer, keep your own queue.
Exit codes: 1 it ended early, 2 usage or settings error, 130 interrupted.
"""

from __future__ import annotations

import hmac
import json
import os
import re
import signal
import sys
import tomllib
from base64 import b64decode, b64encode
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from time import monotonic, time
from typing import NoReturn

import click
from requests import RequestException
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter
from urllib3.exceptions import HTTPError

from mission.errors import DecoderError, MissionFailed, SettingsError
from mission.url import MissionUrl, parse_url
from producer import MissionClient, Outcome, Reason
from worker.fetch.dns import Resolver
from worker.fetch.fetcher import parse_retry_after
from worker.fetch.policy import UrlPolicy
from worker.fetch.transport import PinnedAdapter, tls_context
from worker.fetch.wire import Limits, StaleConnection
from worker.settings import WorkerSettings

ATTEMPTS = 5
# Longer than all attempts for one outcome take: until then no other service sends it.
HOLD_SECONDS = 300.0
# How long one attempt may take, and the longest wait before the next, even if the other side asks for more.
DEADLINE_SECONDS = 10.0
MOST_WAIT_SECONDS = 20.0
GONE = 410
PREFIX = "whsec_"


class Refused(Exception):
    """The other side answered with a status other than 2xx."""

    def __init__(self, status: int, retry_after: float | None) -> None:
        super().__init__(f"answered {status}")
        self.status = status
        self.retry_after = retry_after or 0.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address that receives a submitter's outcomes, and the secret that signs them."""

    url: MissionUrl
    secret: bytes = field(repr=False)


class Sender:
    """Sends outcomes. Thread-safe."""

    def __init__(self, settings: WorkerSettings, endpoints: dict[str, Endpoint]) -> None:
        self._settings = settings
        self._endpoints = endpoints
        self._policy = UrlPolicy.from_settings(settings)
        self._resolver = Resolver()
        self._adapter = PinnedAdapter(tls_context(settings.ca_file), connections=settings.host_concurrency)

    def tell(self, outcome: Outcome) -> None:
        """Send an outcome to its submitter, with retries; report a failure on standard error."""
        endpoint = self._endpoints.get(outcome.submitter)
        if endpoint is None:
            return
        message_id = f"msg_{outcome.place}"
        again = Retrying(
            retry=retry_if_exception(_worth_another),
            wait=lambda state: max(_asked(state.outcome), _BACKOFF(state)),
            stop=stop_after_attempt(ATTEMPTS),
            reraise=True,
        )
        try:
            again(self._post, endpoint, message_id, body_of(outcome))
        except (Refused, MissionFailed) as error:
            print(f"{message_id}: mission {outcome.id} of {outcome.submitter} was not sent: {error}", file=sys.stderr)

    def _post(self, endpoint: Endpoint, message_id: str, body: bytes) -> None:
        """Make one attempt, signed with its own time.

        Raises:
            Refused: the response is not 2xx.
            MissionFailed: the guard refuses the address, or nothing answers there.
        """
        settings, url, now = self._settings, endpoint.url, int(time())
        limits = Limits(monotonic() + DEADLINE_SECONDS, settings.connect_timeout, settings.read_timeout)
        fields = {
            "Content-Type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": str(now),
            "webhook-signature": signature(endpoint.secret, message_id, now, body),
        }
        self._policy.check(url)
        addresses = self._policy.addresses(url, self._resolver, limits.wait(limits.connect))
        while True:
            try:
                response = self._adapter.ask(url, addresses[0], limits, fields, body)
                break
            except StaleConnection:
                continue  # the peer closed a kept-alive connection; the next attempt uses another one
            except (RequestException, HTTPError):
                raise MissionFailed(Reason.CONNECTION_FAILED) from None
        response.close()
        if response.status_code // 100 != 2:
            raise Refused(response.status_code, parse_retry_after(response.raw.headers.get("Retry-After")))


_BACKOFF = wait_exponential_jitter(initial=1, max=MOST_WAIT_SECONDS)


def _worth_another(error: BaseException) -> bool:
    if isinstance(error, Refused):
        return error.status != GONE
    return isinstance(error, MissionFailed) and error.reason.transient


def _asked(last: Future[object] | None) -> float:
    error = last.exception() if last is not None else None
    return min(error.retry_after, MOST_WAIT_SECONDS) if isinstance(error, Refused) else 0.0


def body_of(outcome: Outcome) -> bytes:
    """The request body: a type, a time and the data, as Standard Webhooks recommends."""
    data = {name: value for name, value in outcome.as_dict().items() if name not in ("place", "missed")}
    message = {"type": f"mission.{outcome.state}", "timestamp": outcome.finished_at, "data": data}
    return json.dumps(message, separators=(",", ":")).encode()


def signature(secret: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """A Standard Webhooks signature: HMAC-SHA256 over id, time and body, separated by dots."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return f"v1,{b64encode(hmac.digest(secret, signed, 'sha256')).decode()}"


def read_endpoints(file: Path) -> dict[str, Endpoint]:
    """The endpoints by submitter.

    Raises:
        SettingsError: other users can access the file, it is not TOML, or it has a bad entry.
    """
    if file.stat().st_mode & 0o077:
        raise SettingsError(f"{file} holds secrets, but other users can access it: run `chmod go= {file}`")
    try:
        entries = tomllib.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SettingsError(f"{file}: {error}") from None
    return dict(_endpoints(file, entries))


def _endpoints(file: Path, entries: dict[str, object]) -> Iterator[tuple[str, Endpoint]]:
    for submitter, entry in entries.items():
        url, secret = (entry.get("url"), entry.get("secret")) if isinstance(entry, dict) else (None, None)
        if not (
            isinstance(url, str)
            and isinstance(secret, str)
            and re.fullmatch(rf"{PREFIX}[A-Za-z0-9+/]{{32,88}}=*", secret)
        ):
            raise SettingsError(f"{file}: [{submitter}] needs a url, and a secret as printed by --new-secret")
        try:
            yield submitter, Endpoint(parse_url(url), b64decode(secret.removeprefix(PREFIX)))
        except (MissionFailed, ValueError) as error:
            raise SettingsError(f"{file}: [{submitter}] {error}") from None


def _end(_signal: int, _frame: object) -> NoReturn:
    """End like Ctrl-C."""
    raise KeyboardInterrupt


def _print_secret(context: click.Context, _option: object, wanted: bool) -> None:  # noqa: FBT001 (click's own)
    if wanted:
        print(PREFIX + b64encode(os.urandom(32)).decode())
        context.exit()


@click.command(help=__doc__.replace("\n\n", "\n\n\b\n"))  # as it is written
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--group", default="webhooks", show_default=True, help="Services of one group share the outcomes.")
@click.option("--threads", default=8, show_default=True, type=click.IntRange(1, 64), help="Outcomes sent in parallel.")
@click.option(
    "--new-secret", is_flag=True, is_eager=True, expose_value=False, callback=_print_secret, help="Print a secret."
)
def main(file: Path, group: str, threads: int) -> None:
    """See the module."""
    signal.signal(signal.SIGTERM, _end)
    failed: list[BaseException] = []

    def follow(outcomes: Iterator[Outcome]) -> None:
        try:
            for outcome in outcomes:
                if outcome.missed:
                    print(f"up to {outcome.missed} outcomes before {outcome.id} were dropped unsent", file=sys.stderr)
                sender.tell(outcome)
        except BaseException as error:
            failed.append(error)
            raise

    try:
        sender = Sender(WorkerSettings.from_env(), read_endpoints(file))
        client = MissionClient.from_env()
        running = [
            Thread(target=follow, args=(client.outcomes(group, hold_seconds=HOLD_SECONDS),), daemon=True)
            for _ in range(threads)
        ]
        for thread in running:
            thread.start()
        print(f"sending outcomes of group {group}", file=sys.stderr, flush=True)
        while not failed:
            running[0].join(1.0)
    except KeyboardInterrupt:
        # Do not wait for requests in flight: their outcomes are not acknowledged, so a service sends them again.
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except DecoderError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, SettingsError) else 1)
    sys.exit(1)


if __name__ == "__main__":
    main()
