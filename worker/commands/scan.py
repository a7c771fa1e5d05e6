"""`decoder scan`: extraction only, offline."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from mission.cli.console import complain, confidence_option, emit_json, json_option, note, note_terminal, say
from mission.cli.help import Command
from mission.cli.secrets import emit_secrets
from mission.model import Confidence, Secret
from mission.units import counted
from worker.extract import Extractor
from worker.scan.baseline import Baseline
from worker.scan.inputs import STDIN
from worker.scan.sarif import Sarif
from worker.scan.search import Search
from worker.settings import WorkerSettings


@click.command(
    cls=Command, settings=WorkerSettings, reads=("detectors", "rules", "rules_cache", "markers", "max_record")
)
@click.argument("files", nargs=-1, metavar="[FILE|FOLDER|-]...")
@click.option("--show", is_flag=True, help="Print the secrets' values; they are masked otherwise.")
@confidence_option("Report secrets of at least this confidence.")
@click.option(
    "--exit-code",
    type=click.IntRange(0, 255),
    default=0,
    show_default=True,
    metavar="N",
    help="Exit with N if a secret is reported.",
)
@click.option(
    "--baseline",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Omit secrets that an earlier --json or --sarif report contains.  [default: none]",
)
@click.option(
    "--sarif",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write a SARIF 2.1.0 report, without values.  [default: none]",
)
@click.option("--markers", metavar="'OPEN CLOSE'", help="Opening and closing marker.  [default: DECODER_MARKERS]")
@click.option("--detectors", metavar="NAME,…", help="Detectors to use.  [default: DECODER_DETECTORS]")
@click.option(
    "--rules", multiple=True, metavar="FILE", help="Additional rule file; repeatable.  [default: DECODER_RULES]"
)
@json_option
def scan(
    files: tuple[str, ...],
    show: bool,
    min_confidence: Confidence,
    exit_code: int,
    baseline: Path | None,
    sarif: Path | None,
    as_json: bool,
    **looks_for: Any,
) -> None:
    """Find secrets in files and folders, or on standard input.

    Fetches nothing and stores nothing. A byte order mark sets the charset; the default is UTF-8. Archives are searched. In a folder,
    the scan skips .git, symbolic links, files that .gitignore names, and binary files other than archives; a file named here is
    always searched. An input that cannot be read gives a line on stderr; the scan continues, and the exit code is 1.

    \b
    Example:
      decoder scan --show letter.txt notes/*.md
      decoder scan src --min-confidence medium --sarif report.sarif --exit-code 3
      decoder scan src --json > known.jsonl
      decoder scan src --baseline known.jsonl
      curl -s https://docs.example.com/page | decoder scan --json
    """
    inputs = files or (STDIN,)
    if STDIN in inputs and (sys.stdin is None or (not files and sys.stdin.isatty())):
        raise click.UsageError("give files and folders, or - for standard input")
    if STDIN in inputs:
        note_terminal("a document")
    settings = WorkerSettings.from_env(**{name: value for name, value in looks_for.items() if value not in (None, ())})
    known = Baseline.load(baseline) if baseline else Baseline()
    extractor = Extractor(settings.looks_for, settings.max_record)
    found: list[tuple[str, Secret]] = []
    with ExitStack() as pieces:
        report = pieces.enter_context(Sarif(sarif)) if sarif else None
        own = [*(report.files if report else ()), *([baseline] if baseline else ())]
        search = Search(
            inputs,
            extractor,
            least=min_confidence,
            baseline=known,
            report=report,
            complain=complain,
            but=_identities(own),
        )
        look = "{n_fmt} files |{elapsed}|{postfix}"
        with tqdm(bar_format=look, disable=not sys.stderr.isatty(), leave=False, delay=0.5) as bar:
            for each in search:
                if as_json:
                    shown = [secret.as_dict(show=show) | {"fingerprint": mark} for secret, mark in each.secrets]
                    with bar.external_write_mode():
                        emit_json({"source": each.source, "complete": not each.cut, "cut": each.cut, "secrets": shown})
                else:
                    found += ((each.source, secret) for secret, _ in each.secrets)
                bar.set_postfix_str(f" {counted(search.found, 'secret')}", refresh=False)
                bar.update()
    if not as_json:
        emit_secrets(found, show=show)
        say(f"{counted(search.found, 'secret')} found")
    if left_out := search.left_out():
        note(left_out)
    sys.exit(1 if search.failed else exit_code if search.found else 0)


def _identities(files: Iterable[Path]) -> frozenset[tuple[int, int]]:
    found = [file.stat() for file in files if file.exists()]
    return frozenset((each.st_dev, each.st_ino) for each in found)
