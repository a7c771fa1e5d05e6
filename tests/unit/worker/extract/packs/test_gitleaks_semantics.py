"""gitleaks rules keep their meaning: entropy, keywords, groups, allowlists, paths, required rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.worker.extract.packs.engine import Loaded, loaded

RULE = """
[[rules]]
id = "acme"
description = "Acme"
regex = '''acme[_-]?key\\s*=\\s*([A-Za-z0-9]{6,40})'''
"""
MIXED = "q7Zk29LmX0pR"


def _scan(folder: Path, rules: str, text: str, path: str = "") -> set[tuple[str, str]]:
    return loaded(folder, rules).scan(text, path)


def _allowing(text: str) -> str:
    return f"{RULE}[[rules.allowlists]]\n{text}\n"


@pytest.mark.parametrize(("threshold", "found"), [(3.0, True), (3.58, True), (3.585, False), (4.0, False)])
def test_entropy_is_the_secrets_and_must_be_above_the_threshold(
    tmp_path: Path, threshold: float, *, found: bool
) -> None:
    # Twelve different characters: log2(12) = 3.58496…
    text = f"acme_key = {MIXED}"
    assert bool(_scan(tmp_path, f"{RULE}entropy = {threshold}\n", text)) is found


def test_an_entropy_that_is_just_reached_is_too_low(tmp_path: Path) -> None:
    rules = loaded(tmp_path, f"{RULE}entropy = 3.0\n")
    assert rules.scan("acme_key = abcdefgh") == set()
    assert rules.scan("acme_key = abcdefghi") == {("acme", "abcdefghi")}


def test_the_entropy_is_not_that_of_the_whole_match(tmp_path: Path) -> None:
    assert _scan(tmp_path, f"{RULE}entropy = 2.0\n", "acme_key = aaabaaab") == set()


def test_no_entropy_asks_for_none(tmp_path: Path) -> None:
    assert _scan(tmp_path, f"{RULE}entropy = 0.0\n", "acme_key = aaaaab") == {("acme", "aaaaab")}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"acme_key = {MIXED}", False),
        (f"our zebra\n\nacme_key = {MIXED}", True),
        (f"acme_key = {MIXED}\n" + "x" * 70_000 + "\nOUR ZEBRA", True),
        (f"acme_key = {MIXED} quagga", True),
        (f"acme_key = {MIXED} zebr a", False),
    ],
)
def test_one_of_the_keywords_must_stand_in_the_document_in_any_case(tmp_path: Path, text: str, *, found: bool) -> None:
    assert bool(_scan(tmp_path, f'{RULE}keywords = ["Zebra", "quagga"]\n', text)) is found


def test_each_rule_has_keywords_of_its_own(tmp_path: Path) -> None:
    second = RULE.replace('"acme"', '"second"')
    rules = loaded(tmp_path, f'{RULE}keywords = ["zebra"]\n{second}keywords = ["quagga"]\n')
    assert rules.scan(f"quagga acme_key = {MIXED}") == {("second", MIXED)}
    assert {rule for rule, _secret in rules.scan(f"quagga zebra acme_key = {MIXED}")} == {"acme", "second"}


@pytest.mark.parametrize(
    ("regex", "group", "secret"),
    [
        ("pre-(?:x(\\d{4})|y([a-z]{4}\\d))", 0, "abcd7"),
        ("pre-(y)([a-z]{4}\\d)", 2, "abcd7"),
        ("pre-(?:(x)|y)([a-z]{4}\\d)", 0, "abcd7"),
        ("pre-y[a-z]{4}\\d", 0, "pre-yabcd7"),
    ],
)
def test_the_secret_is_the_group_that_is_named_or_the_first_that_holds_something(
    tmp_path: Path, regex: str, group: int, secret: str
) -> None:
    rules = f"[[rules]]\nid = 'acme'\nregex = '''{regex}'''\nsecretGroup = {group}\n"
    assert _scan(tmp_path, rules, "so: pre-yabcd7.") == {("acme", secret)}


@pytest.mark.parametrize(
    ("allowlist", "text"),
    [
        ("regexes = ['''^q7Zk''']", f"acme_key = {MIXED}"),
        ("regexes = ['''^q7Zk''']\nregexTarget = 'secret'", f"acme_key = {MIXED}"),
        ("regexes = ['''^acme_key = q7''']\nregexTarget = 'match'", f"acme_key = {MIXED}"),
        ("regexes = ['''# test data$''']\nregexTarget = 'line'", f"acme_key = {MIXED} # test data"),
        ("stopwords = ['ZK29']", f"acme_key = {MIXED}"),
        ("condition = 'AND'\nregexes = ['''^q7''']\nstopwords = ['pr']", f"acme_key = {MIXED}"),
        ("condition = 'or'\nregexes = ['''^no''']\nstopwords = ['pr']", f"acme_key = {MIXED}"),
    ],
)
def test_an_allowlist_takes_a_finding_away(tmp_path: Path, allowlist: str, text: str) -> None:
    assert _scan(tmp_path, RULE, text) == {("acme", MIXED)}
    assert _scan(tmp_path, _allowing(allowlist), text) == set()


@pytest.mark.parametrize(
    ("allowlist", "text"),
    [
        ("regexes = ['''acme''']", f"acme_key = {MIXED}"),
        ("regexes = ['''# test''']\nregexTarget = 'match'", f"acme_key = {MIXED} # test"),
        ("regexes = ['''# test''']\nregexTarget = 'line'", f"# test\nacme_key = {MIXED}\n# test"),
        ("stopwords = ['acme']", f"acme_key = {MIXED}"),
        ("condition = 'AND'\nregexes = ['''^q7''']\nstopwords = ['nope']", f"acme_key = {MIXED}"),
        ("condition = '&&'\nregexes = ['''^q7''']\ncommits = ['abc']", f"acme_key = {MIXED}"),
        ("commits = ['abc']", f"acme_key = {MIXED}"),
    ],
)
def test_an_allowlist_takes_nothing_that_it_does_not_name(tmp_path: Path, allowlist: str, text: str) -> None:
    assert _scan(tmp_path, _allowing(allowlist), text) == {("acme", MIXED)}


def test_the_older_allowlist_of_a_rule_and_the_global_one_count(tmp_path: Path) -> None:
    rules = "[allowlist]\nstopwords = ['globally']\n" + RULE + "[rules.allowlist]\nstopwords = ['locally']\n"
    both = loaded(tmp_path, rules + RULE.replace('"acme"', '"second"'))
    assert both.scan("acme_key = x1globally") == set()
    assert both.scan("acme_key = x1locally") == {("second", "x1locally")}


def test_target_rules_narrow_a_global_allowlist(tmp_path: Path) -> None:
    second = RULE.replace('"acme"', '"second"')
    rules = f"{RULE}{second}[[allowlists]]\ntargetRules = ['second']\nstopwords = ['zk29']\n"
    assert _scan(tmp_path, rules, f"acme_key = {MIXED}") == {("acme", MIXED)}


@pytest.mark.parametrize(("path", "found"), [("", True), ("src/app.py", True), ("tests/app.py", False)])
def test_an_allowlists_paths_count_where_there_is_a_path(tmp_path: Path, path: str, *, found: bool) -> None:
    for rules in (_allowing("paths = ['''^tests/''']"), f"[allowlist]\npaths = ['''^tests/''']\n{RULE}"):
        assert bool(_scan(tmp_path, rules, f"acme_key = {MIXED}", path)) is found


def test_paths_and_regexes_together_need_both(tmp_path: Path) -> None:
    rules = loaded(tmp_path, _allowing("paths = ['''x$''']\ncondition = 'AND'\nregexes = ['''^q7''']"))
    assert rules.scan(f"acme_key = {MIXED}") == {("acme", MIXED)}
    assert rules.scan(f"acme_key = {MIXED}", "x") == set()
    assert rules.scan("acme_key = other99", "x") == {("acme", "other99")}


def test_no_regex_for_paths_matches_that_there_is_none(tmp_path: Path) -> None:
    assert _scan(tmp_path, _allowing("paths = ['''^$''']"), f"acme_key = {MIXED}") == {("acme", MIXED)}


def test_a_path_such_as_node_modules_hides_nothing_by_itself(tmp_path: Path) -> None:
    assert _scan(tmp_path, RULE, f"acme_key = {MIXED}", "node_modules/yarn.lock.png") == {("acme", MIXED)}


@pytest.mark.parametrize(("path", "found"), [("", False), ("a.php", True), ("a.py", False)])
def test_a_rules_own_path_must_match(tmp_path: Path, path: str, *, found: bool) -> None:
    assert bool(_scan(tmp_path, f"{RULE}path = '''\\.php$'''\n", f"acme_key = {MIXED}", path)) is found


class TestRequired:
    """Composite rules: a finding counts if the required one is nearby."""

    ACCOUNT = (
        "[[rules]]\nid = 'account'\nregex = '''account-(\\d{4})'''\nkeywords = ['never there']\nskipReport = true\n"
    )

    def rules(self, folder: Path, near: str) -> Loaded:
        return loaded(folder, f"{RULE}[[rules.required]]\nid = 'account'\n{near}\n{self.ACCOUNT}")

    def test_it_counts_only_with_the_required_one_which_is_not_reported_itself(self, tmp_path: Path) -> None:
        rules = self.rules(tmp_path, "")
        assert rules.scan(f"acme_key = {MIXED}") == set()
        assert rules.scan("account-1234\n" + "x\n" * 500 + f"acme_key = {MIXED}") == {("acme", MIXED)}

    @pytest.mark.parametrize(("lines", "found"), [(0, True), (2, True), (3, False)])
    @pytest.mark.parametrize("after", [True, False])
    def test_within_so_many_lines(self, tmp_path: Path, lines: int, *, found: bool, after: bool) -> None:
        between = "\n" * lines
        key, account = f"acme_key = {MIXED} ", "account-1234 "
        text = key + between + account if after else account + between + key
        assert bool(self.rules(tmp_path, "withinLines = 2").scan(text)) is found

    def test_within_no_lines_is_the_same_line(self, tmp_path: Path) -> None:
        rules = self.rules(tmp_path, "withinLines = 0")
        assert rules.scan(f"acme_key = {MIXED} account-1234")
        assert not rules.scan(f"acme_key = {MIXED}\naccount-1234")

    def test_within_so_many_columns_and_lines(self, tmp_path: Path) -> None:
        rules = self.rules(tmp_path, "withinLines = 1\nwithinColumns = 5")
        assert rules.scan(f"acme_key = {MIXED}\n  account-1234")
        assert not rules.scan(f"acme_key = {MIXED}\n{' ' * 20}account-1234")
        assert not rules.scan(f"acme_key = {MIXED}\n\n\n  account-1234")


def test_what_stands_in_a_text_as_a_rule_does_changes_no_line(tmp_path: Path) -> None:
    pack = loaded(tmp_path, f"title = '''\n[[rules]]\n'''\n{RULE}").pack
    assert [(rule.id, rule.line) for rule in pack.rules] == [("acme", 6)]


def test_a_rule_says_where_it_stands_whatever_it_requires(tmp_path: Path) -> None:
    rules = RULE + "[[rules.required]]\nid = 'b'\n\n[[rules]]\nregex = 'b{3}[a-z]{3}'\n# a note\nid = 'b'\n"
    assert [(rule.id, rule.line) for rule in loaded(tmp_path, rules).pack.rules] == [("acme", 3), ("b", 12)]


def test_names_of_keys_count_in_any_case_as_in_gitleaks(tmp_path: Path) -> None:
    rules = RULE.replace("regex", "REGEX") + "ENTROPY = 9.9\n"
    assert _scan(tmp_path, rules, f"acme_key = {MIXED}") == set()


def test_any_text_in_a_pack_comes_through_to_the_engine(tmp_path: Path) -> None:
    odd = 'back`tick "quote" \\\\ slash é \U0001f511 \x7f'
    rules = f"[[rules]]\nid = 'acme'\ndescription = '''{odd.replace(chr(127), '')}'''\nregex = '''k=(\\S+ \\S+)'''\n"
    pack = loaded(tmp_path, rules + "[[rules.allowlists]]\nregexes = ['''a`b\"c\\\\d''']\nstopwords = ['é`\"\\']\n")
    assert pack.scan("k=ab12 cd34") == {("acme", "ab12 cd34")}
    assert pack.scan('k=xa`b"c\\d cd34') == set()
    assert pack.scan('k=é`"\\ cd34') == set()
