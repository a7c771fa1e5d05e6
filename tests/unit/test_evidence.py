"""The page of evidence: generated from ci/evidence.toml with the results of a JUnit file, and checked."""

from __future__ import annotations

from pathlib import Path

import pytest

from ci import evidence
from ci.evidence import NO_RUN, Claim, claim_results, kept, main, page_of, problems, read, run_results

SOURCE = """
["Input"."parsed"]
sentence = "It is parsed."
tests = ["tests/test_a.py::test_one", "tests/test_b.py"]
["Output"."sealed"]
sentence = "It is sealed."
tests = ["tests/test_a.py::test_two"]
"""
ONE, ALL_OF_B, TWO = "tests/test_a.py::test_one", "tests/test_b.py", "tests/test_a.py::test_two"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with two claims, their tests, and their page."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_a.py").write_text("def test_one(): ...\ndef test_two(): ...\n")
    (tmp_path / "tests/test_b.py").write_text("def test_three(): ...\n")
    (tmp_path / "evidence.toml").write_text(SOURCE)
    monkeypatch.setattr(evidence, "DOCUMENT", tmp_path / "evidence.md")
    monkeypatch.setattr(evidence, "read", lambda: read(tmp_path / "evidence.toml"))
    monkeypatch.setattr(evidence, "problems", lambda claims: problems(claims, tmp_path))
    assert main([]) == 0
    return tmp_path


def junit(folder: Path, *cases: tuple[str, str, str]) -> str:
    """A JUnit file as pytest writes it: class name, name, and content of each case."""
    file = folder / "junit.xml"
    lines = [f'<testcase classname="{where}" name="{name}">{inner}</testcase>' for where, name, inner in cases]
    file.write_text(f"<testsuites><testsuite>{''.join(lines)}</testsuite></testsuites>")
    return str(file)


PASSED = (
    ("tests.test_a", "test_one[a]", ""),
    ("tests.test_a", "test_one[b]", ""),
    ("tests.test_a", "test_two", ""),
    ("tests.test_b", "test_three", ""),
)


def test_the_page_is_in_step_with_its_source_and_every_test_exists(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0, capsys.readouterr().err


def test_a_row_holds_the_claim_its_tests_and_its_result(project: Path) -> None:
    page = (project / "evidence.md").read_text()
    row = "| `parsed` | It is parsed. | [test_one](../tests/test_a.py)<br>[tests/test_b.py](../tests/test_b.py) | not run |"
    assert row in page
    assert page.index("## Input") < page.index(row) < page.index("## Output") < page.index("`sealed`")
    assert f"Last recorded run: {NO_RUN}." in page


def test_a_run_is_recorded_and_kept_when_the_page_is_generated_again(project: Path) -> None:
    assert main(["--junit", junit(project, *PASSED), "--commit", "abc123"]) == 0
    page = (project / "evidence.md").read_text()
    assert kept(page) == ({"parsed": "passed", "sealed": "passed"}, "commit `abc123`")
    assert main(["--check"]) == 0
    assert main([]) == 0
    assert (project / "evidence.md").read_text() == page


@pytest.mark.parametrize(
    ("inner", "result"),
    [("<failure/>", "failed"), ("<error/>", "failed"), ("<skipped/>", "skipped"), ("", "passed")],
)
def test_one_case_decides_for_its_function_its_file_and_its_claim(project: Path, inner: str, result: str) -> None:
    results = run_results(Path(junit(project, *PASSED, ("tests.test_a", "test_one[c]", inner))))
    assert results == {
        ONE: result,
        "tests/test_a.py": result,
        TWO: "passed",
        ALL_OF_B: "passed",
        f"{ALL_OF_B}::test_three": "passed",
    }
    assert claim_results(evidence.read(), results) == {"parsed": result, "sealed": "passed"}


def test_a_test_that_no_run_had_makes_its_claim_not_run() -> None:
    assert claim_results([Claim("s", "c", "C.", (ONE, TWO))], {ONE: "passed"}) == {"c": "not run"}


@pytest.mark.parametrize(
    ("cases", "status", "said"),
    [
        (PASSED, 0, "2 passed"),
        ((*PASSED, ("tests.test_b", "test_three", "<skipped/>")), 0, "skipped: parsed"),
        ((*PASSED, ("tests.test_b", "test_three", "<failure/>")), 1, "failed: parsed"),
        (PASSED[:2], 1, "not run: sealed"),
    ],
)
def test_the_check_of_a_run_writes_nothing_and_fails_when_a_claim_did_not_pass(
    project: Path, capsys: pytest.CaptureFixture[str], cases: tuple[tuple[str, str, str], ...], status: int, said: str
) -> None:
    before = (project / "evidence.md").read_text()
    assert main(["--check", "--junit", junit(project, *cases)]) == status
    output = capsys.readouterr()
    assert said in output.out
    assert bool(output.err) == bool(status)
    assert (project / "evidence.md").read_text() == before


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("test_a.py::test_two", "test_a.py::test_gone", "sealed: no such test: tests/test_a.py::test_gone"),
        ("test_b.py", "test_gone.py", "parsed: no such test: tests/test_gone.py"),
        ('["tests/test_a.py::test_two"]', "[]", "sealed: no test shows it"),
        ('"sealed"', '"parsed"', "parsed: two claims have this id"),
    ],
)
def test_what_is_wrong_in_the_source_is_reported_and_nothing_is_written(
    project: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, said: str
) -> None:
    before = (project / "evidence.md").read_text()
    (project / "evidence.toml").write_text(SOURCE.replace(old, new))
    assert main(["--check"]) == main([]) == 1
    assert said in capsys.readouterr().err
    assert (project / "evidence.md").read_text() == before


def test_a_page_that_was_not_generated_again_is_out_of_date(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "evidence.toml").write_text(SOURCE.replace("It is sealed.", "It is sealed twice."))
    assert main(["--check"]) == 1
    assert "evidence.md is out of date: run `python -m ci.evidence`" in capsys.readouterr().err


def test_results_by_hand_do_not_count(project: Path) -> None:
    page = project / "evidence.md"
    page.write_text(page.read_text().replace("| not run |", "| perfect |"))
    assert main(["--check"]) == 1


def test_a_run_is_recorded_with_its_commit_only(project: Path) -> None:
    with pytest.raises(SystemExit):
        main(["--junit", junit(project, *PASSED)])


def test_the_order_of_the_page_is_that_of_the_source() -> None:
    claims = [Claim("b", "x", "X.", (ONE,)), Claim("a", "y", "Y.", (TWO,))]
    page = page_of(claims, {"y": "passed"}, "commit `c`")
    assert page.index("## b") < page.index("## a")
    assert page.endswith("| `y` | Y. | [test_two](../tests/test_a.py) | passed |\n")
