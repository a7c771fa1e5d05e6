"""`decoder scan`: its output, the inputs that it refuses, and that it needs no service."""

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mission.cli.console import Commands
from mission.model import MASK, Secret
from tests.credentials import GITHUB_TOKEN
from tests.security.test_fuzz_documents import BODIES
from worker.commands.scan import scan
from worker.extract import Detectors, Extractor
from worker.scan import inputs

main = Commands(commands=[scan])
BELL = "a\x07b"


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rules_cache: Path) -> None:
    for name in [name for name in os.environ if name.upper().startswith("DECODER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DECODER_RULES_CACHE", str(rules_cache))
    monkeypatch.setenv("DECODER_DETECTORS", "marker")  # rules load slowly: only the tests about them use them
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def everything(rules_cache: Path) -> Extractor:
    return Extractor(Detectors(cache=rules_cache))


def run(*args: str | Path, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, ["scan", *map(str, args)], input=stdin)


def lines(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def secrets(result: Result) -> list[dict[str, Any]]:
    return [secret for line in lines(result) for secret in line["secrets"]]


def sources(result: Result) -> list[str]:
    return [line["source"] for line in lines(result)]


def write(files: dict[str, str]) -> None:
    for name, text in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)


@pytest.fixture
def letter(tmp_path: Path) -> Path:
    file = tmp_path / "letter.txt"
    file.write_bytes(b"one\r\n{* PASSWORD: hunter2 *} {* no\nkey *}\n")
    return file


def test_each_input_is_one_json_object_with_values_masked(letter: Path) -> None:
    result = run("--json", letter, "-", stdin=b"nothing")
    first, second = lines(result)
    assert all(len(secret.pop("fingerprint")) == 32 for secret in first["secrets"])
    same = {
        "detector": "marker",
        "value": MASK,
        "line": 2,
        "confidence": "certain",
        "path": "",
        "encoding": "",
        "count": 1,
    }
    assert first == {
        "source": str(letter),
        "complete": True,
        "cut": [],
        "secrets": [
            same | {"category": "PASSWORD", "column": 14},
            same | {"category": "UNCLASSIFIED", "column": 28},
        ],
    }
    assert second == {"source": "-", "complete": True, "cut": [], "secrets": []}
    assert result.exit_code == 0


def test_show_prints_the_values(letter: Path) -> None:
    assert [secret["value"] for secret in secrets(run("--json", "--show", letter))] == ["hunter2", "no\nkey"]


def test_people_get_a_table_with_values_masked(letter: Path) -> None:
    result = run(letter)
    assert result.stdout.splitlines()[1].split() == [f"{letter}:2:14", "marker", "PASSWORD", "certain", MASK]
    assert result.stdout.splitlines()[-1] == "2 secrets found"
    assert "hunter2" not in result.output


def test_one_secret_is_no_plural() -> None:
    assert run(stdin=b"{* K: v *}").stdout.endswith("1 secret found\n")


def test_a_value_cannot_steer_the_terminal() -> None:
    result = run("--show", stdin=b"{* a\x1b[2Jb *}")
    assert "\x1b" not in result.output
    assert "a\\x1b[2Jb" in result.stdout


def test_a_name_in_a_folder_or_an_archive_cannot_steer_the_terminal() -> None:
    write({f"folder/{BELL}": "{* K: v *}", "member": "{* K: v *}"})
    with tarfile.open("folder/archive.tar", "w") as archive:
        archive.add("member", BELL)
    os.mkfifo(f"folder/{BELL}.pipe")
    result = run("folder")
    assert result.stdout.count("a\\x07b:1:") == 2
    assert "\x07" not in result.output


def test_standard_input_is_the_default() -> None:
    assert secrets(run("--json", "--show", stdin=b"{* K: v *}"))[0]["value"] == "v"


def test_a_byte_order_mark_tells_the_charset(tmp_path: Path) -> None:
    file = tmp_path / "wide.txt"
    file.write_text("{* K: grün *}", encoding="utf-16")
    assert secrets(run("--json", "--show", file))[0]["value"] == "grün"


def test_an_input_that_cannot_be_read_is_one_line_and_the_others_go_on(letter: Path, tmp_path: Path) -> None:
    result = run("--json", "--exit-code", "7", tmp_path / "missing", letter)
    assert result.stderr == f"error: {tmp_path / 'missing'}: No such file or directory\n"
    assert sources(result) == [str(letter)]
    assert result.exit_code == 1


def test_too_many_secrets_are_refused_and_the_others_go_on(letter: Path) -> None:
    result = run("--json", "-", letter, stdin=b"{*a*}" * 10_001)
    assert result.stderr == "error: -: too_many_secrets\n"
    assert sources(result) == [str(letter)]
    assert result.exit_code == 1


def test_what_is_too_large_for_a_result_is_refused_as_a_worker_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECODER_MAX_RECORD", "1KiB")
    result = run("--json", "-", stdin=b"{*secret*}" * 20)
    assert (result.stderr, result.exit_code) == ("error: -: result_too_large\n", 1)


def test_a_file_beyond_the_cap_is_refused_before_it_is_read(tmp_path: Path) -> None:
    file = tmp_path / "huge"
    with file.open("wb") as hole:
        hole.truncate(inputs.MAX_BYTES + 1)
    result = run(file)
    assert result.stderr == f"error: {file}: holds more than 1073741824 bytes\n"
    assert result.exit_code == 1


def test_a_stream_beyond_the_cap_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "MAX_BYTES", 4)
    assert run(stdin=b"1234").exit_code == 0
    assert run(stdin=b"12345").stderr == "error: -: holds more than 4 bytes\n"


def test_markers_come_from_the_option_or_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECODER_MARKERS", "<< >>")
    assert secrets(run("--json", "--show", stdin=b"<<a>> [b]"))[0]["value"] == "a"
    result = run("--json", "--show", "--markers", "[ ]", stdin=b"<<a>> [b]")
    assert [secret["value"] for secret in secrets(result)] == ["b"]


@pytest.mark.parametrize("markers", ["", "{*", "x x", "a b c"])
def test_bad_markers_are_refused_in_one_line(markers: str) -> None:
    result = run("--markers", markers, stdin=b"")
    assert result.stderr.startswith("error: DECODER_MARKERS: ")
    assert result.stderr.count("\n") == 1
    assert result.exit_code == 2


def test_detectors_come_from_the_option() -> None:
    text = f"{{* K: v *}} token {GITHUB_TOKEN}\n".encode()
    assert [each["detector"] for each in secrets(run("--json", stdin=text))] == ["marker"]
    result = run("--json", "--show", "--detectors", "provider", stdin=text)
    assert [(each["category"], each["value"]) for each in secrets(result)] == [("github-pat", GITHUB_TOKEN)]


def test_a_file_of_rules_is_used_beside_the_detectors() -> None:
    write({"team.toml": "[[rules]]\nid = 'team-token'\nregex = 'team_[0-9a-f]{16}'\n"})
    found = secrets(run("--json", "--rules", "team.toml", stdin=b"{* K: v *} team_0123456789abcdef\n"))
    assert [(each["detector"], each["category"]) for each in found] == [("marker", "K"), ("pack:team", "team-token")]


def test_a_detector_that_there_is_not_is_a_mistake_of_usage() -> None:
    result = run("--detectors", "none", stdin=b"")
    assert (result.stderr[:26], result.exit_code) == ("error: DECODER_DETECTORS: ", 2)


@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(BODIES, min_size=20, max_size=20))
def test_it_finds_in_files_what_a_worker_finds_in_documents(everything: Extractor, bodies: list[bytes]) -> None:
    names = [f"document-{number}" for number in range(len(bodies))]
    for name, body in zip(names, bodies, strict=True):
        Path(name).write_bytes(body)
    read = lines(run(*names, "--show", "--json", "--detectors", "marker,provider,generic"))
    for line, body in zip(read, bodies, strict=True):
        found = everything.extract(body)
        assert [Secret.from_dict(each) for each in line["secrets"]] == found
        assert line["cut"] == sorted(found.cut)


def test_the_exit_code_for_what_is_found_is_asked_for(letter: Path) -> None:
    assert run(letter).exit_code == 0
    assert run("--exit-code", "7", letter).exit_code == 7
    assert run("--exit-code", "7", stdin=b"nothing").exit_code == 0


def test_what_is_less_sure_is_left_out() -> None:
    text = f"{{* K: v *}} token {GITHUB_TOKEN}\n".encode()
    more = ("--json", "--detectors", "marker,provider", "--min-confidence")
    assert len(secrets(run(*more, "high", stdin=text))) == 2
    assert [each["confidence"] for each in secrets(run(*more, "certain", stdin=text))] == ["certain"]


def test_a_folder_is_walked_in_order() -> None:
    write({"top/b": "", "top/a": "", "top/in/c": "", "top/.env": "", "top/.git/config": "{* K: v *}"})
    assert sources(run("--json", "top")) == ["top/.env", "top/a", "top/b", "top/in/c"]
    os.chdir("top")
    assert sources(run("--json", ".")) == [".env", "a", "b", "in/c"]


def test_what_gitignore_names_is_passed_over_with_a_count_but_not_what_the_caller_names() -> None:
    write({"top/.gitignore": "*.log\n", "top/a.log": "{* K: v *}", "top/b": ""})
    result = run("--json", "top")
    assert sources(result) == ["top/.gitignore", "top/b"]
    assert result.stderr == "note: skipped: by .gitignore: 1\n"
    assert len(secrets(run("--json", "top/a.log"))) == 1


def test_binary_files_links_and_pipes_in_a_folder_are_passed_over_with_a_count() -> None:
    write({"outside": "{* K: v *}", "top/text": ""})
    Path("top/binary").write_bytes(b"\x7fELF\0\1\2\3{* K: v *}")
    Path("top/link").symlink_to("../outside")
    Path("top/up").symlink_to("..")
    os.mkfifo("top/pipe")
    result = run("--json", "top")
    assert sources(result) == ["top/text"]
    assert result.stderr == "note: skipped: binary files: 1, not regular files: 1, symbolic links: 2\n"
    assert result.exit_code == 0


def test_a_member_of_an_archive_is_named_behind_it() -> None:
    write({"app/.env": "{* K: v *}"})
    Path("top").mkdir()
    with tarfile.open("top/backup", "w:gz") as archive:  # recognised by its content
        archive.add("app/.env")
    assert run("top").stdout.splitlines()[1].split()[0] == "top/backup!app/.env:1:7"
    assert secrets(run("--json", "top"))[0]["path"] == "app/.env"


def test_what_was_not_searched_to_its_end_is_said(tmp_path: Path) -> None:
    write({"app/.env": "{* K: v *}\n"})
    with tarfile.open("backup.tgz", "w:gz") as archive:
        archive.add("app/.env")
    whole = Path("backup.tgz").read_bytes()
    Path("backup.tgz").write_bytes(whole[: len(whole) // 2])
    result = run("--json", "backup.tgz")
    assert lines(result)[0]["complete"] is False
    assert lines(result)[0]["cut"] == ["damaged"]
    assert result.stderr == "note: not searched to the end: backup.tgz (damaged)\n"


@pytest.mark.parametrize("form", ["--json", "--sarif"])
def test_what_stands_in_the_baseline_is_not_reported_wherever_it_moved(form: str) -> None:
    write({"top/a": "{* K: one *}\n", "top/in/b": "{* K: two *}\n"})
    if form == "--json":
        Path("known").write_text(run("--json", "top").stdout)
    else:
        run("top", "--sarif", "known")
    write({"top/a": "\nmoved {* K: one *}\n{* K: three *}\n"})
    result = run("--json", "--show", "--baseline", "known", "--exit-code", "7", "top")
    assert [secret["value"] for secret in secrets(result)] == ["three"]
    assert result.stderr == "note: in the baseline: 2\n"
    assert result.exit_code == 7


def test_the_same_once_more_is_not_in_the_baseline() -> None:
    write({"a": "{* K: one *}\n"})
    Path("known").write_text(run("--json", "a").stdout)
    write({"a": "{* K: one *}{* K: one *}\n"})
    assert len(secrets(run("--json", "--baseline", "known", "a"))) == 1


@pytest.mark.parametrize(
    "text", ["no json", "[]", '{"secrets": [{}]}', '{"runs": 1}', "[" * 100_000, '{"secrets": [{"fingerprint": 1}]}']
)
def test_what_is_no_baseline_is_refused_in_one_line(text: str) -> None:
    write({"known": text})
    result = run("--baseline", "known", stdin=b"")
    assert result.stderr.startswith("error: known: not a baseline; use ")
    assert (result.stderr.count("\n"), result.exit_code) == (1, 2)


def test_a_report_in_sarif_says_where_and_not_what() -> None:
    write({"top/we ird:é%.txt": "é {* KEY: hunter2 *}\n", "member": "{* KEY: hunter2 *}"})
    with tarfile.open("top/x.tar", "w") as archive:
        archive.add("member", "app/.env")
        archive.add("member", "../../etc/passwd")
    assert run("--sarif", "report", "--show", "top").exit_code == 0
    text = Path("report").read_text()
    assert "hunter2" not in text
    report = json.loads(text)
    assert report["version"] == "2.1.0"
    (only,) = report["runs"]
    driver = only["tool"]["driver"]
    assert [rule["id"] for rule in driver["rules"]] == ["marker/KEY"]
    assert only["columnKind"] == "unicodeCodePoints"
    assert only["invocations"] == [{"executionSuccessful": True}]
    places = [result["locations"][0]["physicalLocation"] for result in only["results"]]
    assert [place["artifactLocation"]["uri"] for place in places] == [
        "top/we%20ird%3A%C3%A9%25.txt",
        "top/x.tar!app/.env",
        "top/x.tar!..%2F..%2Fetc%2Fpasswd",
    ]
    assert {place["artifactLocation"]["uriBaseId"] for place in places} == {"%SRCROOT%"}
    assert unquote(places[0]["artifactLocation"]["uri"]) == "top/we ird:é%.txt"
    assert places[0]["region"] == {"startLine": 1, "startColumn": 11}
    for result in only["results"]:
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] == "error"
        assert "snippet" not in json.dumps(result)
    assert len({result["partialFingerprints"]["decoderSecret/v1"] for result in only["results"]}) == 3


@pytest.mark.parametrize(
    ("confidence", "level"), [("certain", "error"), ("high", "error"), ("medium", "warning"), ("low", "note")]
)
def test_a_reports_level_says_how_sure_it_is(confidence: str, level: str) -> None:
    Path("own.toml").write_text(f"[[rules]]\nid = 'x'\nregex = 'x[0-9]+'\nconfidence = '{confidence}'\n")
    rules = () if confidence == "certain" else ("--rules", "own.toml")
    run("--sarif", "report", *rules, stdin=b"{* a *}" if confidence == "certain" else b"x1")
    (result,) = json.loads(Path("report").read_text())["runs"][0]["results"]
    assert result["level"] == level


def test_a_report_of_nothing_is_one_as_well() -> None:
    run("--sarif", "report", stdin=b"nothing")
    (only,) = json.loads(Path("report").read_text())["runs"]
    assert (only["results"], only["tool"]["driver"]["rules"]) == ([], [])


def test_a_report_says_that_an_input_could_not_be_read() -> None:
    assert run("--sarif", "report", "none").exit_code == 1
    assert json.loads(Path("report").read_text())["runs"][0]["invocations"] == [{"executionSuccessful": False}]


def test_a_report_that_cannot_be_written_is_said_before_anything_is_searched(letter: Path) -> None:
    result = run("--sarif", "none/report", letter)
    assert result.stdout == ""
    assert result.stderr.startswith("error: none/report: No such file or directory")
    assert result.exit_code == 1


def test_the_search_does_not_search_what_it_writes() -> None:
    write({"top/a": "{* K: v *}", "top/known": "", "top/report": "{* K: v *}"})
    assert sources(run("--json", "--sarif", "top/report", "--baseline", "top/known", "top")) == ["top/a"]


def test_an_interrupt_leaves_no_part_of_a_report(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupt(*_: object) -> bytes:
        raise KeyboardInterrupt

    write({"top/a": "", "report": "the one before"})
    monkeypatch.setattr(inputs.Inputs, "read", interrupt)
    assert run("--sarif", "report", "top").exit_code == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report", "top"]
    assert Path("report").read_text() == "the one before"


def test_the_command_itself_searches_a_folder(tmp_path: Path) -> None:
    write({"top/a": "{* K: v *}"})
    command = [sys.executable, "-m", "worker", "scan", "--exit-code", "7", "--sarif", "/dev/stdout", "top"]
    root = Path(__file__).parents[4]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(root)}, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (7, "")
    assert "top/a:1:7" in done.stdout
    assert '"uri": "top/a"' in done.stdout
