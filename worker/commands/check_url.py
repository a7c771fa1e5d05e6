"""`decoder check-url`: the policy's verdict on each URL, without a fetch."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from io import BufferedReader
from typing import cast

import click

from mission.cli.advice import advise
from mission.cli.console import emit_json, json_option, note, note_terminal, say
from mission.cli.help import Command
from mission.errors import MissionFailed
from mission.model import Reason
from mission.url import parse_url
from worker.fetch.credentials import Credentials
from worker.fetch.dns import Resolver
from worker.fetch.policy import UrlPolicy
from worker.fetch.wire import Wait
from worker.settings import WorkerSettings

SIDE_BY_SIDE = 16
AHEAD = 256
_READ_BYTES = 65536
_BY_ADDRESS = "allowed URLs are fetched through DECODER_EGRESS_PROXY, by the addresses that were checked here"
_BY_NAME = (
    "allowed URLs are fetched through DECODER_EGRESS_PROXY, which resolves the names: their addresses are not checked"
)


@click.command(
    "check-url",
    cls=Command,
    settings=WorkerSettings,
    reads=(
        *("allowed_hosts", "allowed_schemes", "allowed_networks", "credentials", "connect_timeout"),
        *("egress_proxy", "egress_resolve"),
    ),
)
@click.argument("urls", nargs=-1, metavar="[URL…|-]")
@click.option("--no-resolve", is_flag=True, help="Do not resolve names: check only scheme, host and port.")
@json_option
@click.pass_context
def check_url(context: click.Context, urls: tuple[str, ...], no_resolve: bool, as_json: bool) -> None:
    """Check URLs against the policy without fetching them.

    Prints whether each URL is allowed, or the reason for its refusal, and whether the worker would send credentials (not which).
    Without a URL, or with `-`, reads one URL a line from standard input. DECODER_ALLOWED_HOSTS, _SCHEMES and _NETWORKS define
    the policy. The exit code is 0 if all URLs are allowed, 1 if one is refused.

    \b
    Example:
      DECODER_ALLOWED_HOSTS=docs.example.com decoder check-url https://docs.example.com/page
      decoder check-url --no-resolve --json - < urls.txt
    """
    if not urls and sys.stdin.isatty():
        raise click.UsageError("give URLs, or - for standard input: decoder check-url https://docs.example.com/page")
    settings = WorkerSettings.from_env()
    policy = UrlPolicy.from_settings(settings)
    if not settings.allowed_hosts:
        note("DECODER_ALLOWED_HOSTS is empty, so no URL is allowed")
    if settings.proxy:
        note(_BY_NAME if settings.proxy_resolves else _BY_ADDRESS)
    resolver = None if no_resolve or settings.proxy_resolves else Resolver(threads=SIDE_BY_SIDE)
    if "-" in urls:
        note_terminal("one URL per line")
    credentials = Credentials(settings, policy)
    refused: dict[Reason, None] = {}
    for text, reason in _verdicts(_inputs(urls or ("-",)), policy, resolver, settings.connect_timeout):
        if reason is not None:
            refused[reason] = None
        shown = text.encode(errors="backslashreplace").decode()
        with_some = reason is None and credentials.of(parse_url(text)) is not None
        if as_json:
            emit_json({"url": shown, "allowed": reason is None, "reason": reason, "credentials": with_some})
        elif reason:
            say(f"refused  {shown}  {reason}")
        else:
            say(f"allowed  {shown}{'  with credentials' if with_some else ''}")
    if not as_json:
        advise(refused)
    context.exit(1 if refused else 0)


def _inputs(urls: Iterable[str]) -> Iterator[list[str]]:
    """Yield the URLs in batches: all that are available at the moment."""
    named = []
    for url in urls:
        if url != "-":
            named.append(url)
            continue
        yield named
        named, begun = [], b""
        while read := cast("BufferedReader", sys.stdin.buffer).read1(_READ_BYTES):
            *lines, begun = (begun + read).split(b"\n")
            yield [_text(line) for line in lines]
        if begun:
            yield [_text(begun)]
    yield named


def _text(line: bytes) -> str:
    """Decode a line. Bytes that are not UTF-8 become lone surrogates, as in arguments; the URL is then refused."""
    return line.removesuffix(b"\r").decode(errors="surrogateescape")


def _verdicts(
    inputs: Iterable[list[str]], policy: UrlPolicy, resolver: Resolver | None, timeout: float
) -> Iterator[tuple[str, Reason | None]]:
    """Yield a verdict for each text, in order. Resolves several names at a time; without a resolver, none.

    Yields all verdicts of a batch before it waits for more input, so that `tail -f` works.
    """
    pool = ThreadPoolExecutor(SIDE_BY_SIDE)
    ahead: deque[tuple[str, Future[object]]] = deque()

    def begin(text: str) -> Future[object]:
        answer: Future[object] = Future()
        try:
            url = parse_url(text)
            policy.check(url)
        except MissionFailed as refusal:
            answer.set_exception(refusal)
            return answer
        if resolver:
            return pool.submit(policy.addresses, url, resolver, Wait(timeout, cut_short=False))
        answer.set_result(None)
        return answer

    try:
        for texts in inputs:
            for text in texts:
                ahead.append((text, begin(text)))
                while ahead and (len(ahead) == AHEAD or ahead[0][1].done()):
                    yield _verdict(*ahead.popleft())
            while ahead:
                yield _verdict(*ahead.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _verdict(text: str, answer: Future[object]) -> tuple[str, Reason | None]:
    try:
        answer.result()
    except MissionFailed as refusal:
        return text, refusal.reason
    return text, None
