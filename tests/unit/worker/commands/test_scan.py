"""`decoder scan`: what it prints, what it refuses, and that it needs nothing else."""

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mission.cli.console import Commands
from mission.model import MASK
from worker.commands import scan as module
from worker.commands.scan import scan

main = Commands(commands=[scan])


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith("DECODER_")]:
        monkeypatch.delenv(name)


def run(*args: str | Path, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, ["scan", *map(str, args)], input=stdin)


@pytest.fixture
def letter(tmp_path: Path) -> Path:
    file = tmp_path / "letter.txt"
    file.write_bytes(b"one\r\n{* PASSWORD: hunter2 *} {* no\nkey *}\n")
    return file


def test_each_input_is_one_json_object_with_values_masked(letter: Path) -> None:
    result = run("--json", letter, "-", stdin=b"nothing")
    first, second = map(json.loads, result.stdout.splitlines())
    assert first == {
        "source": str(letter),
        "secrets": [
            {"detector": "marker", "category": "PASSWORD", "value": MASK, "line": 2, "column": 14},
            {"detector": "marker", "category": "UNCLASSIFIED", "value": MASK, "line": 2, "column": 28},
        ],
    }
    assert second == {"source": "-", "secrets": []}
    assert result.exit_code == 0


def test_show_prints_the_values(letter: Path) -> None:
    secrets = json.loads(run("--json", "--show", letter).stdout)["secrets"]
    assert [secret["value"] for secret in secrets] == ["hunter2", "no\nkey"]


def test_people_get_a_table_with_values_masked(letter: Path) -> None:
    result = run(letter)
    assert result.stdout.splitlines()[1].split() == [f"{letter}:2:14", "marker", "PASSWORD", MASK]
    assert result.stdout.splitlines()[-1] == "2 secrets found"
    assert "hunter2" not in result.output


def test_a_value_cannot_steer_the_terminal() -> None:
    result = run("--show", stdin=b"{* a\x1b[2Jb *}")
    assert "\x1b" not in result.output
    assert "a\\x1b[2Jb" in result.stdout


def test_standard_input_is_the_default() -> None:
    assert json.loads(run("--json", "--show", stdin=b"{* K: v *}").stdout)["secrets"][0]["value"] == "v"


def test_a_byte_order_mark_tells_the_charset(tmp_path: Path) -> None:
    file = tmp_path / "wide.txt"
    file.write_text("{* K: grün *}", encoding="utf-16")
    assert json.loads(run("--json", "--show", file).stdout)["secrets"][0]["value"] == "grün"


def test_an_input_that_cannot_be_read_is_one_line_and_the_others_go_on(letter: Path, tmp_path: Path) -> None:
    result = run("--json", tmp_path / "missing", tmp_path, letter)
    assert result.stderr.splitlines() == [
        f"error: {tmp_path / 'missing'}: No such file or directory",
        f"error: {tmp_path}: Is a directory",
    ]
    assert json.loads(result.stdout)["source"] == str(letter)
    assert result.exit_code == 1


def test_too_many_secrets_are_refused_and_the_others_go_on(letter: Path) -> None:
    result = run("--json", "-", letter, stdin=b"{*a*}" * 10_001)
    assert result.stderr == "error: -: too_many_secrets\n"
    assert json.loads(result.stdout)["source"] == str(letter)
    assert result.exit_code == 1


def test_what_is_too_large_for_a_result_is_refused_as_a_worker_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECODER_MAX_RECORD", "1KiB")
    result = run("--json", "-", stdin=b"{*secret*}" * 20)
    assert (result.stderr, result.exit_code) == ("error: -: result_too_large\n", 1)


def test_a_file_beyond_the_cap_is_refused_before_it_is_read(tmp_path: Path) -> None:
    file = tmp_path / "huge"
    with file.open("wb") as hole:
        hole.truncate(module.MAX_BYTES + 1)
    result = run(file)
    assert result.stderr == f"error: {file}: holds more than 1073741824 bytes\n"
    assert result.exit_code == 1


def test_a_stream_beyond_the_cap_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 4)
    assert run(stdin=b"1234").exit_code == 0
    assert run(stdin=b"12345").stderr == "error: -: holds more than 4 bytes\n"


def test_markers_come_from_the_option_or_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECODER_MARKERS", "<< >>")
    assert json.loads(run("--json", "--show", stdin=b"<<a>> [b]").stdout)["secrets"][0]["value"] == "a"
    result = run("--json", "--show", "--markers", "[ ]", stdin=b"<<a>> [b]")
    assert [secret["value"] for secret in json.loads(result.stdout)["secrets"]] == ["b"]


@pytest.mark.parametrize("markers", ["", "{*", "x x", "a b c"])
def test_bad_markers_are_refused_in_one_line(markers: str) -> None:
    result = run("--markers", markers, stdin=b"")
    assert result.stderr.startswith("error: DECODER_MARKERS: ")
    assert result.stderr.count("\n") == 1
    assert result.exit_code == 2
