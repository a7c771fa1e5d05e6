"""`decoder up`: runs Valkey, two workers and Flower until Ctrl-C, for trying things out; with --watch, also Prometheus."""

from __future__ import annotations

import shlex
import sys
import time
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import click

from mission.cli.console import note, say
from mission.cli.help import Command
from mission.seal.key_files import KeyLine, write_key_file
from mission.seal.sealing import Identity, load_identity
from mission.seal.url_keys import generate_url_key
from worker.local.embedded import EmbeddedRedis, private_folder
from worker.local.prometheus import lacking, running_prometheus
from worker.local.sample_site import SampleSite
from worker.local.stack import (
    Child,
    access,
    ending_on_signals,
    running_flower,
    running_worker,
    stack_settings,
    temporary_folder,
)
from worker.settings import WorkerSettings

_LOOK_SECONDS = 0.5
_WORKERS = 2
_OUR_URL = "DECODER_REDIS_URL"
# The logins that people use in other shells: for each, the variable of its URL, and the keys that it needs.
_PEOPLE: dict[str, tuple[str, dict[str, str]]] = {
    "producer": (_OUR_URL, {"DECODER_URL_KEY": "url.key"}),
    "celery": ("REDIS_URL", {}),
    "reader": (_OUR_URL, {"DECODER_IDENTITY_FILE": "identity.key"}),
    "operator": (_OUR_URL, {}),
}
_MATTER = (
    *(
        "allowed_hosts",
        "allowed_schemes",
        "allowed_networks",
        "credentials",
        "concurrency",
        "deadline",
        "max_attempts",
        "detectors",
        "markers",
        "rules",
    ),
)


@click.command(cls=Command, settings=WorkerSettings, reads=_MATTER)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Keep data and keys in this folder for the next run.  [default: a temporary folder, removed at the end]",
)
@click.option("--watch", is_flag=True, help="Also run Prometheus with the decoder's alerts; it must be installed.")
def up(data: Path | None, watch: bool) -> None:
    """Run the whole stack until Ctrl-C.

    Starts an embedded Valkey, two workers with metrics, Flower and a sample site, on free loopback ports only. Prints the
    address of each, and the commands for another shell. Without --data, nothing is left at the end.

    \b
    Example:
      decoder up --watch
      DECODER_ALLOWED_HOSTS=docs.example.com decoder up
    """
    with ExitStack() as pieces:
        pieces.enter_context(ending_on_signals())
        folder = private_folder(data.resolve()) if data else pieces.enter_context(temporary_folder())
        try:
            children = _start(pieces, folder, watch=watch)
            while True:
                for child in children:
                    child.check()
                time.sleep(_LOOK_SECONDS)
        except KeyboardInterrupt:
            say("", "shutting down")


def _start(pieces: ExitStack, folder: Path, *, watch: bool) -> list[Child]:
    site = pieces.enter_context(SampleSite())
    server = pieces.enter_context(EmbeddedRedis(folder / "valkey"))
    values = access([site.url]) | _keys(folder)
    # At level info, the worker logs the port of its metrics.
    values |= {"metrics_host": "127.0.0.1", "metrics_port": "0", "log_level": "info"}
    login = values | {"redis_url": server.login_url("worker")}
    workers = [pieces.enter_context(running_worker(folder, login, name=f"worker-{n}")) for n in range(1, _WORKERS + 1)]
    children = list(workers)
    logins = {name: _login_file(folder, name, server.login_url(name)) for name in _PEOPLE}
    say(f"Valkey        127.0.0.1:{server.port}, data in {server.data_dir}")
    scraped = []
    for number, worker in enumerate(workers, 1):
        address = "127.0.0.1:" + worker.wait_until(r"metrics on port (\d+)")[1]
        scraped.append(address)
        say(f"Worker {number}      http://{address}/metrics  log in {worker.log}")
    if find_spec("flower"):
        flower = pieces.enter_context(running_flower(folder, values | {"redis_url": server.login_url("flower")}))
        children.append(flower.child)
        user, _, password = flower.login.partition(":")
        say(f"Flower        {flower.url}  user {user}  password {password}")
    else:
        say("Flower        not installed: install the extra `flower`")
    if watch and (why := lacking()):
        say(f"Prometheus    {why}")
    elif watch:
        prometheus = pieces.enter_context(running_prometheus(folder, scraped))
        children.append(prometheus.child)
        say(f"Prometheus    {prometheus.url}  alerts in {prometheus.url}/alerts")
    say(f"Sample site   {site.url}/  (a list of its documents)")
    if stack_settings({}).proxy:
        note("the sample site is on this machine's loopback, which DECODER_EGRESS_PROXY does not reach")
    say("", "In another shell, as a producer:", f"  . {logins['producer']}")
    say(f"  mission enqueue --wait {site.url}/letter.txt", "  mission stats")
    say("or as an app that only speaks Celery and reads REDIS_URL:", f"  . {logins['celery']}")
    say("as the reader:", f"  . {logins['reader']}", "  mission reveal ID --reason 'trying it out'")
    say("or as the operator, for dead letters, erasure and the audit:", f"  . {logins['operator']}")
    say("", "ready; Ctrl-C stops everything")
    return children


def _keys(folder: Path) -> dict[str, str]:
    """Settings that name the folder's key files; generates missing files."""
    identity_file, url_key_file = folder / "identity.key", folder / "url.key"
    if not identity_file.exists():
        write_key_file(identity_file, Identity.generate().line)
    if not url_key_file.exists():
        write_key_file(url_key_file, KeyLine.parse(generate_url_key()))
    recipient = load_identity(identity_file).recipient.text
    return {"url_key": str(url_key_file), "recipient": recipient}


def _login_file(folder: Path, login: str, redis_url: str) -> str:
    """Write a private file that a shell sources to use this login; return its quoted name."""
    url, keys = _PEOPLE[login]
    variables = {url: redis_url} | {name: str(folder / key) for name, key in keys.items()}
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    lines.append(f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH")
    # Unset what a previous login left in the same shell.
    others = {name for url, keys in _PEOPLE.values() for name in (url, *keys)} - set(variables)
    lines += [f"unset {name}" for name in sorted(others)]
    file = folder / f"{login}.env"
    file.unlink(missing_ok=True)
    file.touch(mode=0o600)
    file.write_text("\n".join(lines) + "\n")
    return shlex.quote(str(file))
