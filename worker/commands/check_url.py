"""`decoder check-url`: the policy's verdict alone, a line of input each."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import click

from mission.cli.advice import advise
from mission.cli.console import emit_json, json_option, note, note_terminal, printable
from mission.cli.help import Command
from mission.errors import MissionFailed
from mission.model import Reason
from mission.url import MissionUrl, parse_url
from worker.fetch.dns import Resolver
from worker.fetch.policy import UrlPolicy
from worker.settings import WorkerSettings

SIDE_BY_SIDE = 16
AHEAD = 256

_Verdict = tuple[str, Reason | None]
_Pending = tuple[str, Reason | Future[Reason | None]]


@click.command(
    "check-url",
    cls=Command,
    settings=WorkerSettings,
    reads=("allowed_hosts", "allowed_schemes", "allowed_networks", "connect_timeout"),
)
@click.argument("urls", nargs=-1, metavar="[URL…|-]")
@click.option("--no-resolve", is_flag=True, help="Do not look names up: check scheme, host and port alone.")
@json_option
@click.pass_context
def check_url(context: click.Context, urls: tuple[str, ...], no_resolve: bool, as_json: bool) -> None:
    """Say what the policy says of each URL, without fetching it: allowed, or refused and why.

    Reads one URL a line from standard input where none is given, or `-`. The policy is that of DECODER_ALLOWED_HOSTS,
    _SCHEMES and _NETWORKS. The exit code is 0 if all are allowed, 1 if one is refused.

    \b
    Example:
      DECODER_ALLOWED_HOSTS=docs.example.com decoder check-url https://docs.example.com/page
      decoder check-url --no-resolve --json - < urls.txt
    """
    if not urls and sys.stdin.isatty():
        raise click.UsageError("takes URLs, or - for standard input: decoder check-url https://docs.example.com/page")
    settings = WorkerSettings.from_env()
    policy = UrlPolicy.from_settings(settings)
    if not settings.allowed_hosts:
        note("DECODER_ALLOWED_HOSTS is empty, so nothing is allowed")
    texts = _inputs(urls or ("-",))
    verdicts = _checked(texts, policy) if no_resolve else _resolved(texts, policy, settings.connect_timeout)
    if "-" in urls:
        note_terminal("a URL a line")
    refused: dict[Reason, None] = {}
    for text, reason in verdicts:
        if reason is not None:
            refused[reason] = None
        shown = text.encode(errors="backslashreplace").decode()
        if as_json:
            emit_json({"url": shown, "allowed": reason is None, "reason": reason})
        else:
            click.echo(f"refused  {printable(shown)}  {reason}" if reason else f"allowed  {printable(shown)}")
    if not as_json:
        advise(refused)
    context.exit(1 if refused else 0)


def _inputs(urls: Iterable[str]) -> Iterator[str]:
    for url in urls:
        if url == "-":
            for line in sys.stdin.buffer:
                # What is not UTF-8 becomes lone surrogates, as in arguments, and is refused as such.
                yield line.removesuffix(b"\n").removesuffix(b"\r").decode(errors="surrogateescape")
        else:
            yield url


def _check(text: str, policy: UrlPolicy) -> MissionUrl | Reason:
    try:
        url = parse_url(text)
        policy.check(url)
    except MissionFailed as refusal:
        return refusal.reason
    return url


def _checked(texts: Iterable[str], policy: UrlPolicy) -> Iterator[_Verdict]:
    for text in texts:
        checked = _check(text, policy)
        yield text, checked if isinstance(checked, Reason) else None


def _resolved(texts: Iterable[str], policy: UrlPolicy, timeout: float) -> Iterator[_Verdict]:
    """The verdicts in the order of the texts, several look-ups under way at a time."""
    resolver = Resolver(threads=SIDE_BY_SIDE)

    def resolve(url: MissionUrl) -> Reason | None:
        try:
            policy.addresses(url, resolver, timeout)
        except MissionFailed as refusal:
            return refusal.reason
        return None

    pool = ThreadPoolExecutor(SIDE_BY_SIDE)
    ahead: deque[_Pending] = deque()
    try:
        for text in texts:
            checked = _check(text, policy)
            ahead.append((text, checked if isinstance(checked, Reason) else pool.submit(resolve, checked)))
            while ahead and (len(ahead) == AHEAD or _known(ahead[0])):
                yield _verdict(ahead.popleft())
        while ahead:
            yield _verdict(ahead.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _known(pending: _Pending) -> bool:
    return isinstance(pending[1], Reason) or pending[1].done()


def _verdict(pending: _Pending) -> _Verdict:
    text, reason = pending
    return text, reason if isinstance(reason, Reason) else reason.result()
