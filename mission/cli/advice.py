"""Advice for each reason that a mission was refused or ended: one line each, for the commands' notes."""

from __future__ import annotations

from collections.abc import Iterable

from mission.cli.console import note
from mission.model import Reason

ADVICE: dict[str, str] = {
    Reason.INVALID_URL: "takes a URL like https://docs.example.com/page, percent-encoded",
    Reason.SCHEME_NOT_ALLOWED: "takes https://; http:// only if the workers' DECODER_ALLOWED_SCHEMES holds http",
    Reason.HOST_NOT_ALLOWED: "add the host to the workers' DECODER_ALLOWED_HOSTS to allow fetches from it",
    Reason.PORT_NOT_ALLOWED: "add host:port to the workers' DECODER_ALLOWED_HOSTS to allow fetches from it",
    Reason.CREDENTIALS_IN_URL: "leave out the user and password before the @",
    Reason.BLOCKED_ADDRESS: "the host's address is private or reserved; if it must be reachable, add its network to DECODER_ALLOWED_NETWORKS on the workers",
    Reason.DNS_FAILURE: "check the host's spelling, and that the workers can resolve it",
    Reason.CONNECT_TIMEOUT: "check that the host is up and that the workers' network can reach it",
    Reason.READ_TIMEOUT: "the host is slow: try again later, or raise DECODER_READ_TIMEOUT on the workers",
    Reason.DEADLINE_EXCEEDED: "the host is slow: try again later, or raise DECODER_DEADLINE and DECODER_LEASE_SECONDS on the workers",
    Reason.CONNECTION_FAILED: "check that the host is up and listens on this port",
    Reason.TLS_FAILURE: "check the host's certificate; set a private CA in DECODER_CA_FILE on the workers",
    Reason.PROXY_FAILED: "the workers' egress proxy is down or does not answer; the decoder retries by itself",
    Reason.PROXY_LOGIN_REFUSED: "the egress proxy refuses the login in the workers' DECODER_EGRESS_PROXY; the decoder retries by itself",
    Reason.PROXY_REFUSED: "the egress proxy may not or cannot connect to this host and port: ask its operator",
    Reason.HTTP_CLIENT_ERROR: "the host refused: check the URL, and whether it has expired",
    Reason.HTTP_SERVER_ERROR: "the host has an internal error: try again later",
    Reason.RATE_LIMITED: "the host asks for fewer requests: try again later, or lower DECODER_HOST_CONCURRENCY",
    Reason.TOO_MANY_REDIRECTS: "use the final URL, or raise DECODER_MAX_REDIRECTS on the workers",
    Reason.BODY_TOO_LARGE: "fetch a smaller document, or raise DECODER_MAX_BYTES on the workers",
    Reason.MALFORMED_RESPONSE: "the host's answer is not valid HTTP: ask its operator",
    Reason.TOO_MANY_SECRETS: "a result cannot hold so many secrets: split the document",
    Reason.RESULT_TOO_LARGE: "split the document, or raise DECODER_MAX_RECORD on the workers",
    Reason.EXTRACTION_CRASHED: "the document crashes the extraction process: keep it, and report a bug in the decoder",
    Reason.CREDENTIALS_REFUSED: "the host refuses the workers' credentials, in general or for this document; ask the owner of DECODER_CREDENTIALS",
    Reason.STORE_UNAVAILABLE: "check Redis with `decoder doctor`",
    Reason.ATTEMPTS_EXHAUSTED: "see `decoder dead-letters show ID`, fix the cause, then run `decoder dead-letters replay`",
    Reason.LEASE_EXPIRED: "its worker died or hung; check the workers' logs",
    Reason.HOST_PAUSED: "the host failed too often and is paused for a while; the decoder retries by itself",
    Reason.HOST_BUSY: "this host already has as many fetches as DECODER_HOST_CONCURRENCY allows; the mission gets its turn by itself",
    Reason.MEMORY_BUSY: "large documents fill the workers' memory; the decoder retries by itself, or raise DECODER_MEMORY",
    Reason.SHUTDOWN: "its worker was stopped; the decoder retries by itself",
    Reason.EXPIRED: "no worker claimed it in time: check the workers, then enqueue it again, with a longer --expires",
    Reason.CANCELLED: "an operator cancelled it: `decoder audit show` says who and why; enqueue it again if you need it",
    Reason.INTERNAL_ERROR: "a bug in the decoder: search the workers' logs for the mission's id",
    Reason.QUOTA_EXCEEDED: "wait, or raise DECODER_QUOTA",
    Reason.STORED_QUOTA_EXCEEDED: "wait until older results expire, or raise DECODER_STORED_QUOTA; then replay the dead letters with this reason",
    Reason.QUEUE_FULL: "wait for the workers, start more workers, or raise DECODER_QUEUE_LIMIT",
    Reason.IDEMPOTENCY_CONFLICT: "use a new key, or the URL that this key was first used with",
    Reason.MALFORMED_MESSAGE: "send the format that docs/producers.md shows",
}


def advise(reasons: Iterable[str | None]) -> None:
    """Print a note on stderr for each reason, once."""
    for reason in dict.fromkeys(reasons):
        if reason in ADVICE:
            note(f"{reason}: {ADVICE[reason]}")
