"""`.gitignore` at every level, as git reads it."""

import os
from pathlib import Path

import pytest

from worker.scan.ignored import MAX_BYTES, Ignored, repository


def names(top: Path, patterns: str, path: str) -> bool:
    (top / ".gitignore").write_text(patterns)
    return Ignored().within(str(top)).names(str(top / path.rstrip("/")), folder=path.endswith("/"))


@pytest.mark.parametrize(
    ("patterns", "path", "named"),
    [
        ("*.log", "a.log", True),
        ("*.log", "in/a.log", True),
        ("*.log\n!keep.log", "keep.log", False),
        ("/a", "a", True),
        ("/a", "in/a", False),
        ("in/a", "in/a", True),
        ("in/a", "deep/in/a", False),
        ("out/", "out/", True),
        ("out/", "out", False),
        ("out/**", "out/", False),
        ("out/**", "out/a", True),
        ("out/**\n!out/keep", "out/keep", False),
        ("**/a", "deep/in/a", True),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a/x/y/b", True),
        ("?\n!/in", "in/", False),
        ("?\n!/in", "in/a", True),
        ("*\n!*/\n!*.py", "in/deep/", False),
        ("*\n!*/\n!*.py", "in/deep/a.py", False),
        ("*\n!*/\n!*.py", "in/deep/a", True),
        ("a/**/", "a/", False),
        ("a/**/", "a/in/deep/", True),
        ("# a", "# a", False),
        ("\\#a", "#a", True),
        ("a ", "a", True),
        ("a\\ ", "a ", True),
        ("a\r\n", "a", True),
        ("\ufeffa", "a", True),
        ("[ab].txt", "b.txt", True),
        ("[z-a]\n!\nb\\\n[[a]\na", "a", True),  # an invalid pattern does not stop the others
    ],
)
def test_a_pattern_names_what_it_does_in_git(tmp_path: Path, patterns: str, path: str, *, named: bool) -> None:
    assert names(tmp_path, patterns, path) is named


def test_the_deepest_file_that_says_something_decides(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / ".gitignore").write_text("*.log\n*.txt\n")
    (tmp_path / "in" / ".gitignore").write_text("!*.log\n")
    ignored = Ignored().within(str(tmp_path)).within(str(tmp_path / "in"))
    assert not ignored.names(str(tmp_path / "in" / "a.log"), folder=False)
    assert ignored.names(str(tmp_path / "in" / "a.txt"), folder=False)


def test_what_stands_above_counts_up_to_the_top_of_the_repository(tmp_path: Path) -> None:
    inner = tmp_path / "repository" / "in" / "deep"
    inner.mkdir(parents=True)
    (tmp_path / "repository" / ".git").mkdir()
    (tmp_path / ".gitignore").write_text("outside\n")
    (tmp_path / "repository" / ".gitignore").write_text("inside\n")
    ignored = Ignored.above(str(inner))
    assert repository(str(inner)) == str(tmp_path / "repository")
    assert ignored.names(str(inner / "inside"), folder=False)
    assert not ignored.names(str(inner / "outside"), folder=False)


def test_outside_of_a_repository_nothing_above_counts(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / ".gitignore").write_text("a\n")
    if repository(str(tmp_path)) is None:
        assert Ignored.above(str(tmp_path / "in")) == Ignored()


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "none"])
def test_what_is_no_file_of_patterns_names_nothing(tmp_path: Path, kind: str) -> None:
    (tmp_path / "patterns").write_text("a\n")
    file = tmp_path / ".gitignore"
    if kind == "link":
        file.symlink_to("patterns")
    elif kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    assert Ignored().within(str(tmp_path)) == Ignored()


def test_no_more_is_read_of_it_than_a_person_writes(tmp_path: Path) -> None:
    assert names(tmp_path, "a\n", "a")
    assert not names(tmp_path, "#" * MAX_BYTES + "\na\n", "a")


@pytest.mark.parametrize("pattern", ["*a" * 30, "**/a/" * 30 + "b", "*a*a/" * 6 + "x"])
def test_no_pattern_takes_longer_on_a_long_name_than_a_search_may(tmp_path: Path, pattern: str) -> None:
    # With the unchanged pattern, one such name exceeds this test's time limit.
    assert not names(tmp_path, pattern, "/".join(["a" * 60] * 6) + "/y")
    assert not names(tmp_path, pattern, "a" * 200 + "b")
