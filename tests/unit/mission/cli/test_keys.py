from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mission.cli.console import Commands
from mission.cli.keys import keys
from mission.seal.sealing import Identity, load_identity, load_recipient
from mission.seal.suites import X25519
from mission.seal.url_keys import UrlKeyring

main = Commands(commands=[keys])


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["keys", *arguments])


def _generate(*arguments: str) -> Result:
    return _run("generate", *arguments)


def test_all_three_keys_are_made_at_once_and_fit() -> None:
    result = _generate("--identity", "reader.key", "--recipient", "reader.pub", "--url-key", "url.key")
    assert result.exit_code == 0
    identity, recipient = load_identity(Path("reader.key")), load_recipient("reader.pub")
    record = recipient.seal(b"x", mission_id="m", token=1)
    assert identity.open(record, mission_id="m", token=1) == b"x"
    assert UrlKeyring.parse("url.key").key_ids


def test_an_identity_alone_prints_its_recipient_and_nothing_else() -> None:
    result = _generate("--identity", "reader.key")
    assert result.stdout == load_identity(Path("reader.key")).recipient.text + "\n"


@pytest.mark.parametrize("suite", ["mlkem768-x25519", "x25519"])
def test_the_suite_can_be_chosen(suite: str) -> None:
    _generate("--identity", "reader.key", "--suite", suite)
    assert load_identity(Path("reader.key")).suite.name == suite


def test_the_suite_is_the_post_quantum_hybrid_by_default() -> None:
    _generate("--identity", "reader.key")
    assert load_identity(Path("reader.key")).suite.name == "mlkem768-x25519"


def test_the_recipient_of_an_identity_that_is_there_is_derived() -> None:
    _generate("--identity", "reader.key", "--suite", "x25519")
    before = Path("reader.key").read_bytes()
    assert _generate("--identity", "reader.key", "--recipient", "reader.pub").exit_code == 0
    assert load_recipient("reader.pub").text == load_identity(Path("reader.key")).recipient.text
    assert Path("reader.key").read_bytes() == before


@pytest.mark.parametrize("option", ["--identity", "--url-key"])
def test_a_file_that_is_there_is_never_overwritten(option: str) -> None:
    Path("precious").write_text("precious")
    result = _generate(option, "precious")
    assert (result.exit_code, result.stdout) == (1, "")
    assert (
        result.stderr
        == "error: precious already exists: key files are never overwritten; choose another name, or move it away\n"
    )
    assert Path("precious").read_text() == "precious"


def test_when_one_file_is_there_none_is_made() -> None:
    Path("url.key").write_text("precious")
    assert _generate("--identity", "reader.key", "--recipient", "reader.pub", "--url-key", "url.key").exit_code == 1
    assert os.listdir() == ["url.key"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "decoder keys generate --identity reader.key"),
        (["--recipient", "reader.pub"], "--identity FILE"),
        (["--url-key", "url.key", "--suite", "x25519"], "--suite applies only to a new identity"),
        (["--identity", "a", "--recipient", "a"], "a separate file"),
        (["--identity", "a", "--suite", "rot13"], "'rot13' is not one of"),
    ],
)
def test_a_call_that_makes_no_sense_is_a_usage_error(arguments: list[str], why: str) -> None:
    result = _generate(*arguments)
    assert result.exit_code == 2
    assert why in result.stderr
    assert os.listdir() == []


def test_a_suite_for_an_identity_that_is_there_is_a_usage_error() -> None:
    _generate("--identity", "reader.key")
    assert _generate("--identity", "reader.key", "--recipient", "reader.pub", "--suite", "x25519").exit_code == 2


def test_a_folder_that_is_not_there_is_one_line() -> None:
    result = _generate("--identity", "none/reader.key")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: cannot write the key file none/reader.key")
    assert result.stderr.count("\n") == 1


def test_generate_tells_in_json_what_it_made() -> None:
    result = _generate("--identity", "reader.key", "--url-key", "url.key", "--json")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(row["kind"], row["file"]) for row in rows] == [
        ("identity", "reader.key"),
        ("recipient", None),
        ("url-key", "url.key"),
    ]
    assert rows[1]["text"] == load_identity(Path("reader.key")).recipient.text


def test_show_tells_kind_suite_and_key_id() -> None:
    _generate("--identity", "reader.key", "--recipient", "reader.pub", "--url-key", "url.key")
    result = _run("show", "reader.key", "reader.pub", "url.key", "--json")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    pair_id = load_recipient("reader.pub").key_id.hex()
    assert rows[0] == {"kind": "identity", "suite": "mlkem768-x25519", "key_id": pair_id, "file": "reader.key"}
    assert rows[1] == {"kind": "recipient", "suite": "mlkem768-x25519", "key_id": pair_id, "file": "reader.pub"}
    assert (rows[2]["kind"], rows[2]["suite"], len(rows[2]["key_id"])) == ("url-key", "v1", 8)


def test_show_prints_the_line_that_workers_take_of_a_recipient_and_of_an_identity() -> None:
    _generate("--identity", "reader.key", "--recipient", "reader.pub")
    line = load_recipient("reader.pub").text
    assert line.startswith("decoder-recipient:")
    result = _run("show", "--recipient", "reader.pub", "reader.key")
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{line}\n{line}\n", "")
    rows = [json.loads(row) for row in _run("show", "--recipient", "--json", "reader.key").stdout.splitlines()]
    assert [(row["kind"], row["file"], row["text"]) for row in rows] == [("recipient", "reader.key", line)]


def test_a_url_key_has_no_line_for_workers_recipients() -> None:
    _generate("--identity", "reader.key", "--url-key", "url.key")
    result = _run("show", "--recipient", "reader.key", "url.key")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "error: url.key: got a URL key; takes an identity or a recipient\n"


@pytest.mark.parametrize("arguments", [["--json"], []])
def test_show_never_tells_private_material(arguments: list[str]) -> None:
    _generate("--identity", "reader.key", "--url-key", "url.key")
    output = _run("show", "reader.key", "url.key", *arguments).output
    for name in ("reader.key", "url.key"):
        assert name in output
        assert Path(name).read_text().strip().rpartition(":")[2] not in output


@pytest.mark.parametrize(
    ("text", "mode"), [("nonsense", 0o600), ("", 0o600), (Identity(X25519, b"i" * 32).text, 0o644)]
)
def test_show_refuses_a_bad_file_in_one_line_without_its_content(text: str, mode: int) -> None:
    Path("reader.key").write_text(text)
    Path("reader.key").chmod(mode)
    result = _run("show", "reader.key")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert not text or text.rpartition(":")[2] not in result.output
