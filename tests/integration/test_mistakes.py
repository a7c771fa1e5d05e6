"""A new user's mistakes: the commands answer with one line on stderr that says what to do, never with a traceback.

Each row runs in a real shell. `tests/integration/test_bad_input.py` covers the range of bad values.
"""

from __future__ import annotations

import os
import pty
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from mission.model import Secret
from mission.seal.key_files import KeyLine, write_key_file
from mission.seal.sealing import Identity, seal_secrets
from mission.seal.url_keys import generate_url_key
from mission.store.names import entry_key, result_key
from tests.processes import started
from tests.servers.certificates import Authority
from tests.servers.tls_redis import tls_redis
from worker.settings import WorkerSettings

pytestmark = pytest.mark.full

# Ids of an unknown mission, of one that succeeded, and of one that failed.
ID, DONE = "0f8fad5b-d9cb-469f-a165-70867728950e", "7c9e6679-7425-40de-944b-e07fc1f90ae7"
FAILED = "550e8400-e29b-41d4-a716-446655440000"
URL = "https://docs.example/page"
FAILURE: dict[Any, Any] = {
    "state": "failed",
    "token": "1",
    "reason": "http_client_error",
    "submitted_at": "1",
    "finished_at": "2",
}
CHECK_REDIS = "check that Redis is up, and host, port and TLS (redis:// or rediss://) in DECODER_REDIS_URL"


@dataclass(frozen=True, slots=True)
class Mistake:
    """A command line, its exit code, and the text that its line on stderr must contain."""

    what: str
    typed: str
    code: int
    said: str


MISTAKES = [
    # The command line.
    Mistake("a command misspelt", f"mission enqeue {URL}", 2, "No such command 'enqeue'. Did you mean 'enqueue'?"),
    Mistake("an option misspelt", f"mission enqueue --wiat {URL}", 2, "No such option '--wiat'. Did you mean '--wait'?"),
    Mistake("nothing to enqueue", "mission enqueue", 2, "name a URL, or a file of them: mission enqueue https://"),
    Mistake("- for standard input", "mission enqueue -", 2, "- is not a URL; to read URLs from standard input, use --from-file -"),
    Mistake("no such duration", f"mission enqueue --expires soon {URL}", 2, "takes one like 90s, 5m or 24h"),
    Mistake("a negative duration", f"mission enqueue --expires -1h {URL}", 2, "takes one like 90s, 5m or 24h"),
    Mistake("a negative number", "decoder worker --concurrency -5", 2, "-5 is not in the range 1<=x<=1024"),
    Mistake("a negative count", "decoder audit show --limit -1", 2, "-1 is not in the range x>=0"),
    Mistake("no such time", "decoder audit show --since yesterday", 2, "takes how long ago, like 2h, or a time like 2026-"),
    Mistake("no reason for a read", f"mission reveal {ID}", 2, "Missing option '--reason'. (see `mission reveal --help`"),
    Mistake("no such reason", "decoder dead-letters list --reason timeout", 2, "'connect_timeout', 'read_timeout'"),
    Mistake("nothing selected", "decoder dead-letters replay --why x", 2, "name missions, or select them by --reason"),
    Mistake("half a pair of markers", "decoder scan --markers '{*' urls.txt", 2, "got '{*'; takes opening and closing"),
    # Files.
    Mistake("no such file", "mission enqueue --from-file none.txt", 2, "'none.txt': No such file or directory"),
    Mistake("a folder for a file", "mission enqueue --from-file empty", 2, "'empty': Is a directory"),
    Mistake("an empty file", "mission enqueue --from-file empty.txt", 0, "no URL found: nothing was enqueued"),
    Mistake("an empty input", "printf '' | mission enqueue --from-file -", 0, "no URL found"),
    Mistake("nothing to scan", "decoder scan none.txt", 1, "none.txt: No such file or directory"),
    Mistake("a full disk", "mission stats --json > /dev/full", 1, "No space left on device; needs a writable file"),
    Mistake("no place for data", "decoder up --data /proc/decoder", 2, "/proc/decoder: No such file or directory; use a writable folder"),
    Mistake("data open to others", "decoder up --data open", 2, "accessible to other users; use a private folder (chmod 700)"),
    Mistake("a log that is not there", "decoder audit verify --log none.log", 2, "'none.log': No such file or directory"),
    # Keys.
    Mistake("no URL key", f"env -u DECODER_URL_KEY mission enqueue {URL}", 2, "decoder keys generate --url-key FILE"),
    Mistake("no such key file", f"DECODER_URL_KEY=none.key mission enqueue {URL}", 2, "DECODER_URL_KEY: expected a URL key: a line that starts with decoder-url-key:, or the name of a file that holds it (no such file; `decoder keys generate` creates one)"),
    Mistake("a key open to others", f"DECODER_URL_KEY=open.key mission enqueue {URL}", 2, "run `chmod 600 open.key`"),
    Mistake("the wrong kind of key", f"DECODER_URL_KEY=reader.pub mission enqueue {URL}", 2, "reader.pub: expected a URL key, got a recipient (public key)"),
    Mistake("a key over another", "decoder keys generate --url-key url.key", 1, "never overwritten; choose another name, or move it away"),
    Mistake("no folder for a key", "decoder keys generate --url-key none/url.key", 1, "cannot write the key file none/url.key: No such file"),
    Mistake("no identity", f"mission reveal {DONE} --reason x", 2, "takes the file of the reader's identity (or use --identity FILE)"),
    Mistake("the wrong identity", f"mission reveal {DONE} --reason x --identity other.key", 1, "but its identity is missing: add its file with --identity"),
    Mistake("a URL key for an identity", f"mission reveal {DONE} --reason x --identity url.key", 2, "url.key: expected an identity (private key), got a URL key"),
    # A worker's settings.
    Mistake("no recipient", "decoder worker", 2, "DECODER_RECIPIENT: not set; takes the public key to seal results to"),
    Mistake("the private key for the public one", "DECODER_RECIPIENT=reader.key decoder worker", 2, "expected a recipient (public key), got an identity"),
    Mistake("a folder without recipients", "DECODER_RECIPIENTS=empty decoder worker", 2, "contains no NAME.pub; takes a public key for each submitter"),
    Mistake("a lease too short", "DECODER_LEASE_SECONDS=40s decoder settings", 2, "takes at least DECODER_DEADLINE + 15s = 45s"),
    Mistake("the metrics' port taken", "DECODER_RECIPIENT=reader.pub DECODER_METRICS_HOST=127.0.0.1 DECODER_METRICS_PORT=$TAKEN decoder worker", 2, "cannot listen there on 127.0.0.1 (DECODER_METRICS_HOST): Address already in use"),
    Mistake("a variable misspelt", "DECODER_ALLOWED_HOST=docs.example decoder settings > /dev/null", 0, "DECODER_ALLOWED_HOST is not a setting: did you mean DECODER_ALLOWED_HOSTS?"),
    Mistake("a bad number", "DECODER_MAX_ATTEMPTS=many decoder settings", 2, "DECODER_MAX_ATTEMPTS: got 'many'; takes attempts before a mission becomes a dead letter, 1 to 100"),
    # URLs.
    Mistake("a URL without a scheme", "mission enqueue docs.example/page", 1, "has no scheme; expected a URL like https://docs.example.com/page"),
    Mistake("a scheme that is not for the web", "mission enqueue ftp://docs.example/page", 1, "scheme_not_allowed: use https:// or http://"),
    Mistake("a password in a URL", "mission enqueue https://me:sesame@docs.example/", 1, "leave out the user and password before the @"),
    Mistake("a space in a URL", "mission enqueue 'https://docs.example/a page'", 1, "percent-encode it"),
    Mistake("a host off the allowlist", f"DECODER_ALLOWED_HOSTS=other.example decoder check-url {URL}", 1, "add the host to the workers' DECODER_ALLOWED_HOSTS"),
    # Redis.
    Mistake("Redis away", "DECODER_REDIS_URL=redis://127.0.0.1:1/0 mission stats", 1, f"Connection refused: {CHECK_REDIS}"),
    Mistake("Redis away, for the audit", "DECODER_REDIS_URL=redis://127.0.0.1:1/0 decoder audit show", 1, f"Connection refused: {CHECK_REDIS}"),
    Mistake("no such host", "DECODER_REDIS_URL=redis://nowhere.invalid/0 mission stats", 1, CHECK_REDIS),
    Mistake("no password", "DECODER_REDIS_URL=redis://127.0.0.1:$REDIS/0 mission stats", 1, "Redis requires a password: check user and password in DECODER_REDIS_URL"),
    Mistake("a wrong password", "DECODER_REDIS_URL=redis://:sesame@127.0.0.1:$REDIS/0 mission stats", 1, "Redis refuses the login"),
    Mistake("TLS to a plain port", "DECODER_REDIS_TIMEOUT=1s DECODER_REDIS_URL=rediss://:sesame@127.0.0.1:$REDIS/0 mission stats", 1, CHECK_REDIS),
    Mistake("a wrong scheme", "DECODER_REDIS_URL=http://127.0.0.1:$REDIS mission stats", 2, "takes URL of broker and ledger: redis://, rediss://, sentinel://"),
    Mistake("no such database", "DECODER_REDIS_URL=${DECODER_REDIS_URL%/0}/99 mission stats", 1, "check the number at the end of DECODER_REDIS_URL"),
    # Missions.
    Mistake("what is no id", "mission status letter", 1, f"a mission id is a UUID like {ID}"),
    Mistake("an unknown id", f"mission status {ID}", 1, "was it enqueued here within DECODER_LEDGER_TTL?"),
    Mistake("a result of a failure", f"mission reveal {FAILED} --reason x --identity reader.key", 1, f"mission {FAILED} has no result: it is failed (http_client_error)"),
    Mistake("a status of a failure", f"mission status {FAILED}", 0, "http_client_error: the host refused: check the URL"),
    Mistake("no worker runs", f"mission enqueue {URL} --wait --timeout 100ms", 1, "1 of 1 not finished after 0.1s; they go on: check them with `mission status ID`; if none makes progress, check that a worker is running"),
]  # fmt: skip


@pytest.fixture
def taken() -> Iterator[int]:
    """A port in use."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def env(settings: WorkerSettings, client: redis.Redis, taken: int, tmp_path: Path) -> dict[str, str]:
    """A working user environment, in a folder with the user's files."""
    reader = Identity.generate()
    write_key_file(tmp_path / "url.key", KeyLine.parse(generate_url_key()))
    write_key_file(tmp_path / "reader.key", reader.line)
    write_key_file(tmp_path / "reader.pub", reader.recipient.line)
    write_key_file(tmp_path / "other.key", Identity.generate().line)
    (tmp_path / "open.key").write_text(generate_url_key())
    (tmp_path / "open.key").chmod(0o644)
    (tmp_path / "urls.txt").write_text(URL + "\n")
    (tmp_path / "empty.txt").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "open").mkdir(mode=0o755)
    record = seal_secrets(reader.recipient, [Secret("marker", "KEY", "value", 1, 1)], mission_id=DONE, token=1)
    client.hset(entry_key(DONE), mapping={"state": "succeeded", "token": 1})
    client.set(result_key(DONE, 1), record)
    client.hset(entry_key(FAILED), mapping=FAILURE)
    return {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "DECODER_REDIS_URL": settings.redis_url.get_secret_value(),
        "DECODER_URL_KEY": "url.key",
        "REDIS": str(client.connection_pool.connection_kwargs["port"]),
        "TAKEN": str(taken),
    }


def told(stderr: str) -> str:
    """The one line meant for people; the audit's lines beside it are JSON."""
    assert "Traceback" not in stderr
    (line,) = [line for line in stderr.splitlines() if not line.startswith("{")]
    assert len(line) < 800
    assert "sesame" not in stderr
    return line


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.what)
def test_a_mistake_is_one_line_that_says_what_to_do(mistake: Mistake, env: dict[str, str], tmp_path: Path) -> None:
    result = subprocess.run(
        ["sh", "-c", mistake.typed], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    line = told(result.stderr)
    assert mistake.said in line
    assert line.startswith("note: " if mistake.code == 0 else ("error: ", "note: "))
    assert result.returncode == mistake.code


@pytest.mark.parametrize(
    ("scheme", "said"),
    [("redis", CHECK_REDIS), ("rediss", "check the CA in DECODER_REDIS_CA_FILE")],
    ids=["plain to a TLS port", "an authority that nobody told of"],
)
def test_a_mistake_about_tls_says_where_to_look(scheme: str, said: str, env: dict[str, str], tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with tls_redis(tmp_path, certificate=authority.certificate("127.0.0.1"), ca=authority.ca_file) as port:
        own = {"DECODER_REDIS_URL": f"{scheme}://127.0.0.1:{port}/0"}
        result = subprocess.run(
            ["mission", "stats"], env=env | own, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
    assert said in told(result.stderr)
    assert result.returncode == 1


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (
            ["mission", "enqueue", "--from-file", "-"],
            "note: reading one URL per line from the terminal; Ctrl-D ends it",
        ),
        (
            ["decoder", "check-url", "--no-resolve", "-"],
            "note: reading one URL per line from the terminal; Ctrl-D ends it",
        ),
        (["decoder", "scan", "-"], "note: reading a document from the terminal; Ctrl-D ends it"),
        (["decoder", "check-url"], "error: give URLs, or - for standard input"),
        (["decoder", "scan"], "error: give files and folders, or - for standard input"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_nobody_waits_before_a_silent_terminal(
    typed: list[str], said: str, env: dict[str, str], tmp_path: Path
) -> None:
    ours, theirs = pty.openpty()
    own = env | {"DECODER_ALLOWED_HOSTS": "docs.example"}
    with started(typed, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=own, cwd=tmp_path) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith(said)
        os.write(ours, b"\x04")  # Ctrl-D
        process.communicate(timeout=60)
        assert process.returncode == (2 if said.startswith("error") else 0)
    os.close(ours)
    os.close(theirs)


@pytest.mark.parametrize("option", [["--wait"], ["--from-file", "-"]], ids=["while it waits", "while it enqueues"])
def test_ctrl_c_says_what_becomes_of_the_missions(option: list[str], env: dict[str, str], tmp_path: Path) -> None:
    with started(
        ["mission", "enqueue", URL, *option],
        env=env,
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{URL}\n" * 300)  # more than one chunk, so that the first is admitted
        process.stdin.flush()
        assert "queued" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    follows = "ID" if option == ["--wait"] else "--batch [0-9a-f-]{36}"
    said = f"interrupted: missions enqueued so far go on; check them with `mission status {follows}`"
    assert process.returncode == 130
    assert re.fullmatch(said, told(stderr))


@pytest.mark.parametrize(
    "typed", [["decoder", "settings"], ["mission", "enqueue", "--from-file", "urls.txt"]], ids=" ".join
)
def test_a_reader_that_closed_the_pipe_gets_no_traceback(typed: list[str], env: dict[str, str], tmp_path: Path) -> None:
    with started(typed, env=env, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
        assert process.wait(60) == 1
