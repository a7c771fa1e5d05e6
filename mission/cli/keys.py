"""`decoder keys`: generate keys, show key files, and re-seal results to a new key."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from mission.audit.log import AuditLog
from mission.cli.console import BAR_SECONDS, emit_json, emit_records, json_option, say, why_option
from mission.cli.help import Group
from mission.errors import KeyFormatError
from mission.operate.rewrap import Rewrapper
from mission.seal.key_files import KeyLine, Kind, already_there, load_key, read_key_file, write_key_file
from mission.seal.sealing import Identity, Recipient, load_identity
from mission.seal.suites import HYBRID, SUITES
from mission.seal.url_keys import check_url_key, generate_url_key, key_id
from mission.settings import Settings
from mission.store.connection import connect

_EXAMPLE = "decoder keys generate --identity reader.key --recipient reader.pub --url-key url.key"
_file = click.Path(path_type=Path, dir_okay=False)


@click.group(cls=Group)
def keys() -> None:
    """Generate keys, show key files, re-seal results to a new key.

    \b
    Example:
      decoder keys generate --identity reader.key --recipient reader.pub --url-key url.key
    """


@keys.command()
@click.option(
    "--identity",
    type=_file,
    metavar="FILE",
    help="The reader's private key; never put it on a worker.  [default: not generated]",
)
@click.option(
    "--recipient",
    type=_file,
    metavar="FILE",
    help="Its public key, for workers (DECODER_RECIPIENT).  [default: printed]",
)
@click.option(
    "--url-key",
    type=_file,
    metavar="FILE",
    help="Key for URLs in the ledger (DECODER_URL_KEY).  [default: not generated]",
)
@click.option("--suite", type=click.Choice(list(SUITES)), help=f"How results are sealed.  [default: {HYBRID.name}]")
@json_option
def generate(
    identity: Path | None, recipient: Path | None, url_key: Path | None, suite: str | None, as_json: bool
) -> None:
    """Generate new keys, each in a separate file. Existing files are never overwritten.

    If the identity exists already, --recipient writes its public key. Without --recipient the public key is printed.

    \b
    Example:
      decoder keys generate --identity reader.key --recipient reader.pub --url-key url.key
    """
    if not (identity or recipient or url_key):
        raise click.UsageError(f"name the files to create: {_EXAMPLE}")
    if recipient and not identity:
        raise click.UsageError("a recipient is the public key of an identity: name the identity with --identity FILE")
    derive = bool(identity and recipient and identity.exists())
    if suite and (derive or not identity):
        raise click.UsageError("--suite applies only to a new identity")
    new_files = [path for path in (None if derive else identity, recipient, url_key) if path]
    if len(set(new_files)) < len(new_files):
        raise click.UsageError("each key needs a separate file")
    for path in new_files:  # before the first write: create all files or none
        if path.exists():
            raise already_there(path)
    if identity:
        pair = load_identity(identity) if derive else Identity.generate(SUITES[suite or HYBRID.name])
        if not derive:
            _write(identity, pair.line, as_json=as_json)
        if recipient:
            _write(recipient, pair.recipient.line, as_json=as_json)
        elif as_json:
            emit_json(_about(pair.recipient.line) | {"file": None, "text": pair.recipient.text})
        else:
            say(pair.recipient.text)
    if url_key:
        _write(url_key, KeyLine.parse(generate_url_key()), as_json=as_json)


@keys.command()
@click.argument("key_files", nargs=-1, required=True, type=_file, metavar="FILE...")
@click.option(
    "--recipient",
    is_flag=True,
    help="Print the public key itself, for DECODER_RECIPIENT and the chart; for an identity, its recipient's.",
)
@json_option
def show(key_files: tuple[Path, ...], recipient: bool, as_json: bool) -> None:
    """Show kind, suite and key id of key files. An identity has the key id of its recipient.

    With --recipient, print only the line of each public key.

    \b
    Example:
      decoder keys show reader.key reader.pub url.key
      decoder keys show --recipient reader.key
    """
    lines = [(path, read_key_file(path)) for path in key_files]
    if not recipient:
        emit_records([_about(line) | {"file": str(path)} for path, line in lines], as_json=as_json)
        return
    public = [(path, _recipient(path, line)) for path, line in lines]
    if as_json:
        emit_records((_about(line) | {"file": str(path), "text": line.text} for path, line in public), as_json=True)
    else:
        say(*(line.text for _, line in public))


@keys.command(reads=("redis_url", "redis_ca_file"))
@click.option(
    "--from",
    "old",
    type=_file,
    multiple=True,
    required=True,
    metavar="FILE",
    help="An old identity; repeatable.",
)
@click.option("--to", "new", required=True, metavar="KEY|FILE", help="The new recipient.")
@why_option(required=False, default="key rotation", show_default=True)
@json_option
def rewrap(old: tuple[Path, ...], new: str, reason: str, as_json: bool) -> None:
    """Re-seal results from old keys to a new one.

    Needs the old identities. Give workers the new DECODER_RECIPIENT first. You can stop this command and run it again at any time: it skips results
    already under the new key. It leaves results under other keys as they are. Exit code 1 if a result did not open.

    \b
    Example:
      decoder keys rewrap --from reader.key --to reader-2027.pub
    """
    settings = Settings.from_env()
    identities = [load_identity(path) for path in old]
    recipient = Recipient.from_line(load_key(Kind.RECIPIENT, new))
    client = connect(settings)
    rewrapper = Rewrapper(client, settings, identities, recipient, AuditLog(client))
    watched = tqdm(
        rewrapper.keys(), unit=" results", disable=not sys.stderr.isatty(), delay=BAR_SECONDS, file=sys.stderr
    )
    done = rewrapper.rewrap(watched, why=reason)
    if as_json:
        emit_json(asdict(done))
    else:
        say(", ".join(f"{count} {name}" for name, count in asdict(done).items()))
    if done.unreadable:
        raise SystemExit(1)


def _write(path: Path, line: KeyLine, *, as_json: bool) -> None:
    write_key_file(path, line)
    about = _about(line) | {"file": str(path)}
    if as_json:
        emit_json(about)
    else:
        say(f"{path}: {line.kind.noun}, {line.label}, key id {about['key_id']}", err=True)


def _recipient(path: Path, line: KeyLine) -> KeyLine:
    if line.kind is Kind.URL_KEY:
        raise KeyFormatError(f"{path}: got {line.kind.noun}; takes an identity or a recipient")
    return Identity.from_line(line).recipient.line if line.kind is Kind.IDENTITY else Recipient.from_line(line).line


def _about(line: KeyLine) -> dict[str, Any]:
    """The facts that may be shown about any key: never its material."""
    if line.kind is Kind.URL_KEY:
        name = key_id(check_url_key(line))
    else:
        name = (Identity if line.kind is Kind.IDENTITY else Recipient).from_line(line).key_id
    return {"kind": line.kind.value.removeprefix("decoder-"), "suite": line.label, "key_id": name.hex()}
