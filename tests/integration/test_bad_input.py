"""Bad input is a clear refusal: one line on stderr, the right exit code, nothing on stdout, no secret repeated."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from mission.model import MASK, Reason
from mission.seal.key_files import write_key_file
from mission.seal.sealing import Identity
from mission.seal.url_keys import generate_url_key
from mission.settings import Settings
from producer.cli import main as mission
from tests.conftest import wait_for
from worker.cli import main as decoder
from worker.local.embedded import EmbeddedRedis
from worker.local.stack import running_worker
from worker.settings import WorkerSettings

pytestmark = pytest.mark.full

URL = "https://docs.example/page"
ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
# Values in refused input that must not appear in any output.
PASSWORD, PATH = "hunter2-pass-word", "sesame-path"
WORDS = (PASSWORD, PATH)

Environment = Mapping[str, str]


def assert_refused(code: int, stdout: str, stderr: str, *, expected: int) -> str:
    """The one line, without its `error: `."""
    assert (code, stdout) == (expected, ""), stderr
    assert "Traceback" not in stderr
    assert stderr.endswith("\n")
    (line,) = stderr.splitlines()
    assert line.startswith("error: ")
    assert not any(word in line for word in WORDS)
    return line.removeprefix("error: ")


def refusal(command: click.Command, *arguments: str, env: Environment, code: int) -> str:
    """The one line of a command within this process."""
    result = CliRunner().invoke(command, arguments, env=env)
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    return assert_refused(result.exit_code, result.stdout, result.stderr, expected=code)


def refusal_of_process(module: str, *arguments: str, env: Environment, code: int, folder: Path) -> str:
    """The same for a real process, in an unrelated folder. Its stdout may have log lines, as JSON."""
    result = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env={**os.environ, **env},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert all(json.loads(line)["@timestamp"] for line in result.stdout.splitlines())
    assert not any(word in result.stdout for word in WORDS)
    return assert_refused(result.returncode, "", result.stderr, expected=code)


@pytest.fixture
def env(settings: WorkerSettings) -> dict[str, str]:
    """A working producer environment."""
    return {"DECODER_REDIS_URL": settings.redis_url.get_secret_value(), "DECODER_URL_KEY": generate_url_key()}


@pytest.fixture
def worker_env(env: dict[str, str]) -> dict[str, str]:
    """A working worker environment."""
    return env | {
        "DECODER_RECIPIENT": Identity.generate().recipient.text,
        "DECODER_METRICS_PORT": "0",
        "DECODER_METRICS_HOST": "127.0.0.1",
    }


# Settings

BAD_SETTINGS = [
    ("DECODER_MAX_AGE", "soon"),
    ("DECODER_MAX_AGE", "-1h"),
    ("DECODER_MAX_AGE", "9" * 400 + "d"),
    ("DECODER_MAX_AGE", "3651d"),
    ("DECODER_LEDGER_TTL", "1e3000"),
    ("DECODER_AUDIT_TTL", ""),
    ("DECODER_QUEUE_LIMIT", "0"),
    ("DECODER_QUEUE_LIMIT", "1.5"),
    ("DECODER_QUEUE_LIMIT", "9" * 5000),
    ("DECODER_QUEUE_LIMIT", "\udcff"),
    ("DECODER_QUOTA", "lots"),
    ("DECODER_QUOTA", "9" * 5000 + "/day"),
    ("DECODER_REDIS_TIMEOUT", "NaN"),
    ("DECODER_REDIS_TIMEOUT", "61s"),
    ("DECODER_REDIS_REPLICAS", "eleven"),
]

BAD_WORKER_SETTINGS = [
    ("DECODER_ALLOWED_HOSTS", "https://docs.example/"),
    ("DECODER_ALLOWED_HOSTS", "docs.example:99999"),
    ("DECODER_ALLOWED_HOSTS", "docs.example:" + "9" * 5000),
    ("DECODER_ALLOWED_NETWORKS", "10.0.0.0/33"),
    ("DECODER_ALLOWED_SCHEMES", "gopher"),
    ("DECODER_DEADLINE", "0"),
    ("DECODER_DEADLINE", "infinity"),
    ("DECODER_MAX_BYTES", "nan"),
    ("DECODER_MAX_BYTES", "1e400"),
    ("DECODER_RESULT_TTL", "9" * 400),
    ("DECODER_MARKERS", "{*"),
    ("DECODER_CONCURRENCY", "1025"),
    ("DECODER_METRICS_PORT", "-1"),
    ("DECODER_ACCEPT_SUBMIT", "maybe"),
    ("DECODER_LOG_LEVEL", "LOUD"),
]

BAD_REDIS_URLS = [
    "",
    "127.0.0.1:6379",
    f"http://:{PASSWORD}@127.0.0.1/0",
    "redis://",
    f"redis://:{PASSWORD}@127.0.0.1:0/0",
    f"redis://:{PASSWORD}@127.0.0.1:65536/0",
    f"redis://:{PASSWORD}@127.0.0.1:port/0",
    f"redis://:{PASSWORD}@127.0.0.1/zero",
    f"redis://:{PASSWORD}@a.example,b.example/0",
    f"redis://:{PASSWORD}@[::1/0",
    f"redis://:{PASSWORD}@127.0.0.1/0?ssl_cert_reqs=none",
    f"sentinel://:{PASSWORD}@a.example:26379,b.example:26379",
]


@pytest.mark.parametrize(("variable", "value"), BAD_SETTINGS)
def test_a_producer_refuses_a_bad_setting(variable: str, value: str, env: dict[str, str]) -> None:
    line = refusal(mission, "stats", env=env | {variable: value}, code=2)
    takes = Settings.model_fields[variable.removeprefix("DECODER_").lower()].description
    assert line == f"{variable}: got {value[:80]!r}; takes {takes}"


@pytest.mark.parametrize(("variable", "value"), BAD_SETTINGS + BAD_WORKER_SETTINGS)
def test_a_worker_refuses_a_bad_setting(variable: str, value: str, worker_env: dict[str, str]) -> None:
    line = refusal(decoder, "worker", env=worker_env | {variable: value}, code=2)
    takes = WorkerSettings.model_fields[variable.removeprefix("DECODER_").lower()].description
    assert line == f"{variable}: got {value[:80]!r}; takes {takes}"


@pytest.mark.parametrize("url", BAD_REDIS_URLS)
@pytest.mark.parametrize("command", [(mission, "stats"), (decoder, "worker"), (decoder, "settings")], ids=str)
def test_a_bad_redis_url_is_refused_and_not_repeated(
    url: str, command: tuple[click.Command, str], env: dict[str, str]
) -> None:
    line = refusal(*command, env=env | {"DECODER_REDIS_URL": url}, code=2)
    assert line.startswith(f"DECODER_REDIS_URL: got {MASK}; takes URL of broker and ledger: redis://")


@pytest.mark.parametrize(
    "arguments", [["settings"], ["scan"], ["check-url", URL], ["run"], ["up"], ["doctor"], ["worker"]], ids=str
)
def test_every_command_that_reads_settings_refuses_a_bad_one_alike(
    arguments: list[str], worker_env: dict[str, str]
) -> None:
    line = refusal(decoder, *arguments, env=worker_env | {"DECODER_DEADLINE": "soon"}, code=2)
    assert line.startswith("DECODER_DEADLINE: got 'soon'; takes seconds")


# Keys

KEY_FILES: dict[str, bytes] = {
    "empty": b"",
    "binary": bytes(range(256)),
    "two keys": f"{generate_url_key()}\n{generate_url_key()}\n".encode(),
    "a private key": f"{Identity.generate().text}\n".encode(),
    "damaged": f"decoder-url-key:v1:{PASSWORD}\n".encode(),
    "too large": b"# much\n" * 20_000,
}
KEY_TEXTS = {
    "nothing but a comma": ",",
    "a word": PASSWORD,
    "a control character": "\x01",
    "not UTF-8": "\udcff",
    "damaged": f"decoder-url-key:v1:{PASSWORD}",
    "short": "decoder-url-key:v1:AAAA",
    "of another version": generate_url_key().replace(":v1:", ":v9:"),
    "private": Identity.generate().text,
    "one good and one bad": f"{generate_url_key()},{PASSWORD}",
    "longer than any name": PASSWORD * 500,
    "a missing file": "missing.key",
    "a folder": "/",
}


@pytest.mark.parametrize("content", KEY_FILES.values(), ids=KEY_FILES)
def test_a_bad_url_key_file_is_refused_by_name(content: bytes, env: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "url.key"
    file.write_bytes(content)
    file.chmod(0o600)
    line = refusal(mission, "enqueue", URL, env=env | {"DECODER_URL_KEY": str(file)}, code=2)
    assert line.startswith(f"DECODER_URL_KEY: {file}")


@pytest.mark.parametrize("text", KEY_TEXTS.values(), ids=KEY_TEXTS)
def test_a_bad_url_key_is_refused_and_not_repeated(text: str, env: dict[str, str]) -> None:
    line = refusal(mission, "enqueue", URL, env=env | {"DECODER_URL_KEY": text}, code=2)
    assert line.startswith("DECODER_URL_KEY: ")
    assert len(line) < 300


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o666])
def test_a_url_key_file_that_is_open_to_the_world_is_refused(mode: int, env: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "url.key"
    file.write_text(generate_url_key())
    file.chmod(mode)
    line = refusal(mission, "enqueue", URL, env=env | {"DECODER_URL_KEY": str(file)}, code=2)
    assert f"open to others (mode {mode:04o}): run `chmod 600 {file}`" in line


def test_without_a_url_key_a_producer_says_how_to_get_one(env: dict[str, str]) -> None:
    del env["DECODER_URL_KEY"]
    line = refusal(mission, "enqueue", f"https://docs.example/{PATH}", env=env, code=2)
    assert line.startswith("DECODER_URL_KEY: not set; takes a URL key")
    assert "decoder keys generate --url-key FILE" in line


@pytest.mark.parametrize("kind", ["missing", "empty", "a URL key", "a public key", "open"])
def test_a_bad_identity_is_refused(kind: str, env: dict[str, str], tmp_path: Path) -> None:
    identity, file = Identity.generate(), tmp_path / "reader.key"
    texts = {
        "empty": "",
        "a URL key": generate_url_key(),
        "a public key": identity.recipient.text,
        "open": identity.text,
    }
    if kind in texts:
        file.write_text(texts[kind])
        file.chmod(0o640 if kind == "open" else 0o600)
    line = refusal(mission, "reveal", ID, "--reason", "a test", "--identity", str(file), env=env, code=2)
    assert str(file) in line


# URLs

BAD_URLS = {
    "": Reason.INVALID_URL,
    "docs.example": Reason.INVALID_URL,
    f"//docs.example/{PATH}": Reason.INVALID_URL,
    f"https:///{PATH}/": Reason.INVALID_URL,
    f"https://docs.example/{PATH} and more": Reason.INVALID_URL,
    f"https://docs.example/{PATH}\n": Reason.INVALID_URL,
    f"https://docs.example\\{PATH}": Reason.INVALID_URL,
    f"https://docs.example/{PATH}\udcff": Reason.INVALID_URL,
    f"https://docs.example/{PATH}\x00": Reason.INVALID_URL,
    f"https://docs.example:99999/{PATH}": Reason.INVALID_URL,
    f"https://[::1/{PATH}": Reason.INVALID_URL,
    f"https://0x7f.1/{PATH}": Reason.INVALID_URL,
    f"https://2130706433/{PATH}": Reason.INVALID_URL,
    f"https://docs.example/{PATH}?{'x' * 100_000}": Reason.INVALID_URL,
    f"ftp://docs.example/{PATH}": Reason.SCHEME_NOT_ALLOWED,
    f"file:///{PATH}": Reason.SCHEME_NOT_ALLOWED,
    f"javascript:{PATH}": Reason.SCHEME_NOT_ALLOWED,
    f"https://user:{PASSWORD}@docs.example/{PATH}": Reason.CREDENTIALS_IN_URL,
    f"https://{PASSWORD}@docs.example/{PATH}": Reason.CREDENTIALS_IN_URL,
}


@pytest.mark.parametrize(("url", "reason"), BAD_URLS.items(), ids=range(len(BAD_URLS)))
def test_a_bad_url_is_refused_with_its_reason_and_not_repeated(url: str, reason: Reason, env: dict[str, str]) -> None:
    line = refusal(mission, "enqueue", "--", url, env=env, code=1)
    assert line.partition(":")[0] == reason


def test_a_bad_url_is_refused_as_such_while_redis_is_away(env: dict[str, str]) -> None:
    away = env | {"DECODER_REDIS_URL": "redis://127.0.0.1:1/0"}
    line = refusal(mission, "enqueue", f"https://user:{PASSWORD}@docs.example/", env=away, code=1)
    assert line.startswith("credentials_in_url")


def test_of_a_file_each_bad_line_is_refused_by_number_and_the_good_ones_are_taken(
    env: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "urls.txt"
    file.write_bytes(b"https://docs.example/a\nhttps://docs.example/\xff\xfe\r\n\nhttps://docs.example/b\n\0\n")
    result = CliRunner().invoke(mission, ["enqueue", "--from-file", str(file)], env=env)
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 2
    assert re.findall(r"^error: .*/urls.txt:(\d+): (\w+)", result.stderr, re.MULTILINE) == [
        ("2", "invalid_url"),
        ("5", "invalid_url"),
    ]


# Ids and options

BAD_IDS = ["", "7", ID.upper(), f"{{{ID}}}", f"{ID}\n", ID[:-1], f"urn:uuid:{ID}", PASSWORD, "\udcff", "*", "../" + ID]


@pytest.mark.parametrize("bad", BAD_IDS)
@pytest.mark.parametrize("command", ["status", "forget", "reveal"])
def test_what_is_no_mission_id_is_refused_and_not_repeated(
    command: str, bad: str, env: dict[str, str], tmp_path: Path
) -> None:
    write_key_file(tmp_path / "reader.key", Identity.generate().line)
    arguments = [] if command == "status" else ["--reason", "a test"]
    with_identity = env | {"DECODER_IDENTITY_FILE": str(tmp_path / "reader.key")}
    line = refusal(mission, command, *arguments, "--", bad, env=with_identity, code=1)
    assert "a mission id is a UUID like" in line


@pytest.mark.parametrize("command", ["status", "forget"])
def test_a_mission_that_is_not_there_is_said_not_to_be(command: str, env: dict[str, str]) -> None:
    arguments = [] if command == "status" else ["--reason", "a test"]
    result = CliRunner().invoke(mission, [command, *arguments, ID], env=env)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith(f"error: no mission {ID} in the ledger")


@pytest.mark.parametrize(
    "arguments",
    [
        ["enqueue"],
        ["enqueue", "--expires", "soon", URL],
        ["enqueue", "--expires", "0s", URL],
        ["enqueue", "--expires", "nan", URL],
        ["enqueue", "--timeout", "-1s", URL],
        ["enqueue", "--from-file", "missing.txt"],
        ["enqueue", "--from-file", "/"],
        ["enqueue", "--no-such-option", URL],
        ["--no-such-option"],
        ["no-such-command"],
        ["status"],
        ["stats", "more"],
        ["reveal", ID],
        ["reveal", ID, "--reason", " "],
        ["reveal", ID, "--reason", "x" * 501],
        ["forget", ID],
    ],
    ids=" ".join,
)
def test_bad_usage_of_mission_is_one_line_that_leads_to_the_help(arguments: Sequence[str], env: dict[str, str]) -> None:
    assert "--help`)" in refusal(mission, *arguments, env=env, code=2)


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["worker", "--concurrency", "0"],
        ["worker", "more"],
        ["run", "--timeout", "soon"],
        ["keys", "generate"],
        ["keys", "show"],
        ["keys", "no-such-command"],
        ["audit", "show", "--limit", "-1"],
        ["audit", "verify", "--log", "missing.log"],
        ["dead-letters", "show"],
    ],
    ids=" ".join,
)
def test_bad_usage_of_decoder_is_one_line_that_leads_to_the_help(arguments: Sequence[str], env: dict[str, str]) -> None:
    assert "--help`)" in refusal(decoder, *arguments, env=env, code=2)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--submitter", "a b", "a submitter is"),
        ("--submitter", "", "a submitter is"),
        ("--submitter", "\udcff", "a submitter is"),
        ("--idempotency-key", "", "an idempotency key is"),
        ("--idempotency-key", "x" * 257, "an idempotency key is"),
    ],
)
def test_a_bad_option_of_a_mission_is_refused(option: str, value: str, said: str, env: dict[str, str]) -> None:
    assert said in refusal(mission, "enqueue", option, value, URL, env=env, code=1)


# Redis


@contextmanager
def answering(answer: bytes | None) -> Iterator[int]:
    """A server on loopback that gives every client this answer, or none at all; its port."""
    with socket.create_server(("127.0.0.1", 0)) as server, ExitStack() as connections:

        def serve() -> None:
            with suppress(OSError):  # ends when the server is closed
                while True:
                    connection = connections.enter_context(server.accept()[0])
                    if answer is not None:
                        connection.sendall(answer)
                        connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


COMMANDS: list[list[str]] = [["enqueue", URL], ["status", ID], ["stats"]]


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
@pytest.mark.parametrize(
    "answer", [None, b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"-ERR no\r\n", b"-LOADING soon\r\n", b"\xff" * 100]
)
def test_what_answers_like_no_redis_is_an_outage(
    answer: bytes | None, arguments: Sequence[str], env: dict[str, str]
) -> None:
    with answering(answer) as port:
        own = {"DECODER_REDIS_URL": f"redis://:{PASSWORD}@127.0.0.1:{port}/0", "DECODER_REDIS_TIMEOUT": "500ms"}
        assert refusal(mission, *arguments, env=env | own, code=1).startswith("store_unavailable: ")


@pytest.mark.parametrize(
    "place", ["127.0.0.1:1", "nowhere.invalid:6379", "[::1]:1"], ids=["nobody listens", "no such name", "IPv6"]
)
@pytest.mark.parametrize("scheme", ["redis", "rediss"])
@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_an_unreachable_redis_is_an_outage(
    scheme: str, place: str, arguments: Sequence[str], env: dict[str, str]
) -> None:
    own = {"DECODER_REDIS_URL": f"{scheme}://user:{PASSWORD}@{place}/0", "DECODER_REDIS_TIMEOUT": "1s"}
    assert refusal(mission, *arguments, env=env | own, code=1).startswith("store_unavailable: ")


def test_sentinels_that_do_not_answer_are_an_outage(env: dict[str, str]) -> None:
    own = {"DECODER_REDIS_URL": f"sentinel://user:{PASSWORD}@127.0.0.1:1,127.0.0.1:2/main"}
    line = refusal(mission, "stats", env=env | own, code=1)
    assert (
        line
        == "store_unavailable: the Sentinels know no master of that name, or do not answer: check DECODER_REDIS_URL, and with TLS their certificates"
    )


def test_a_wrong_password_is_an_outage_and_not_repeated(env: dict[str, str], redis_server: EmbeddedRedis) -> None:
    own = {"DECODER_REDIS_URL": f"redis://:{PASSWORD}@127.0.0.1:{redis_server.port}/0"}
    assert refusal(mission, "stats", env=env | own, code=1).startswith("store_unavailable: ")


# Real processes


def test_a_producers_process_refuses_in_one_line(env: dict[str, str], tmp_path: Path) -> None:
    line = refusal_of_process(
        "producer", "enqueue", f"https://user:{PASSWORD}@docs.example/{PATH}", env=env, code=1, folder=tmp_path
    )
    assert line.startswith("credentials_in_url")


def test_a_producers_process_refuses_without_redis_in_one_line(env: dict[str, str], tmp_path: Path) -> None:
    away = env | {"DECODER_REDIS_URL": f"redis://:{PASSWORD}@127.0.0.1:1/0"}
    line = refusal_of_process("producer", "enqueue", f"https://docs.example/{PATH}", env=away, code=1, folder=tmp_path)
    assert line.startswith("store_unavailable")


def worker_problems(folder: Path) -> dict[str, tuple[dict[str, str], str]]:
    """Environments with which a worker must not start, and the error that it must print for each."""
    (folder / "open.key").write_text(generate_url_key())
    (folder / "open.key").chmod(0o644)
    (folder / "team.pub").write_text(PASSWORD)
    return {
        "no URL key": ({"DECODER_URL_KEY": ""}, "DECODER_URL_KEY: "),
        "an open URL key": ({"DECODER_URL_KEY": str(folder / "open.key")}, "open to others (mode 0644)"),
        "no recipient": ({"DECODER_RECIPIENT": ""}, "DECODER_RECIPIENT: not set; takes the public key"),
        "a bad recipient": ({"DECODER_RECIPIENT": PASSWORD}, "DECODER_RECIPIENT: expected a recipient (public key)"),
        "a private key": ({"DECODER_RECIPIENT": Identity.generate().text}, "DECODER_RECIPIENT: expected a recipient"),
        "no folder of recipients": ({"DECODER_RECIPIENTS": str(folder / "none")}, "DECODER_RECIPIENTS: got"),
        "a bad recipient in the folder": ({"DECODER_RECIPIENTS": str(folder)}, "team.pub"),
        "a lease too short": (
            {"DECODER_LEASE_SECONDS": "44s", "DECODER_DEADLINE": "30s"},
            "DECODER_LEASE_SECONDS: got 44s; takes at least DECODER_DEADLINE + 15s = 45s",
        ),
        "no CA file": ({"DECODER_CA_FILE": str(folder / "none.pem")}, "DECODER_CA_FILE: got"),
        "no such address": ({"DECODER_METRICS_HOST": "192.0.2.1"}, "DECODER_METRICS_PORT: got 0; cannot listen there"),
    }


PROBLEMS = [
    "no URL key",
    "an open URL key",
    "no recipient",
    "a bad recipient",
    "a private key",
    "no folder of recipients",
    "a bad recipient in the folder",
    "a lease too short",
    "no CA file",
    "no such address",
]


@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_worker_does_not_start_with(problem: str, worker_env: dict[str, str], tmp_path: Path) -> None:
    own, said = worker_problems(tmp_path)[problem]
    assert said in refusal_of_process("worker", "worker", env=worker_env | own, code=2, folder=tmp_path)


def test_a_worker_does_not_start_where_its_metrics_port_is_taken(worker_env: dict[str, str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        own = {"DECODER_METRICS_PORT": str(port)}
        line = refusal_of_process("worker", "worker", env=worker_env | own, code=2, folder=tmp_path)
    assert line == (
        f"DECODER_METRICS_PORT: got {port}; cannot listen there on 127.0.0.1 (DECODER_METRICS_HOST): Address already in use"
    )


def test_celerys_own_command_refuses_a_bad_setting_in_one_line_too(worker_env: dict[str, str], tmp_path: Path) -> None:
    line = refusal_of_process(
        "celery", "-A", "worker.app", "worker", env=worker_env | {"DECODER_DEADLINE": "soon"}, code=2, folder=tmp_path
    )
    assert line.startswith("DECODER_DEADLINE: got 'soon'; takes seconds")


def test_a_worker_waits_for_its_redis_and_says_so(worker_env: dict[str, str], tmp_path: Path) -> None:
    values = {name.removeprefix("DECODER_").lower(): value for name, value in worker_env.items()}
    with EmbeddedRedis(tmp_path / "server") as server:
        server.stop()
        with running_worker(tmp_path, values | {"redis_url": server.url}) as worker:
            worker.wait_until("Cannot connect to redis://")
            worker.check()
            server.start()
            worker.wait_until("ready")
            assert "Traceback" not in worker.log.read_text()
            worker.process.terminate()
            wait_for(lambda: worker.process.poll() == 0, what="the worker's end")
