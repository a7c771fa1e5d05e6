"""The public packs of gitleaks and betterleaks: all rules load, or are named; gitleaks' rules keep their meaning.

The packs are not part of this repository (https://github.com/gitleaks/gitleaks, https://github.com/betterleaks/betterleaks, both MIT).
DECODER_PACKS_DIR names the folder with `gitleaks.toml` and `betterleaks.toml`.
"""

from __future__ import annotations

import re
import tempfile
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import corpus
from tests.unit.worker.extract.packs.emulator import Emulator
from tests.unit.worker.extract.packs.engine import Loaded
from worker.extract.packs import Pack, load
from worker.extract.packs.trial import unloadable

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def gitleaks() -> Pack:
    return load(corpus("DECODER_PACKS_DIR", "gitleaks.toml"))


@pytest.mark.parametrize(("name", "rules", "loaded"), [("gitleaks.toml", 222, 221), ("betterleaks.toml", 412, 411)])
def test_every_rule_loads_or_is_named(name: str, rules: int, loaded: int, rules_cache: Path) -> None:
    file = corpus("DECODER_PACKS_DIR", name)
    pack = load(file)
    assert unloadable(pack, rules_cache) == ()
    given = {rule["id"]: rule for rule in tomllib.loads(file.read_text(encoding="utf-8"))["rules"]}
    assert len(given) == rules
    assert all(set(rule.keywords) == set(map(str.lower, given[rule.id]["keywords"])) for rule in pack.rules)
    with tempfile.TemporaryDirectory() as folder:
        assert len(Loaded(pack, Path(folder), rules_cache).rules) == len(pack.rules) == loaded
    assert [left.rule for left in pack.left_out if left.rule] == ["pkcs12-file"]


def test_every_rules_line_is_that_of_its_id(gitleaks: Pack) -> None:
    lines = gitleaks.file.read_text(encoding="utf-8").split("\n")
    assert all(lines[rule.line - 1] == f'id = "{rule.id}"' for rule in gitleaks.rules)


def test_nothing_of_the_network_comes_to_the_engine() -> None:
    text = load(corpus("DECODER_PACKS_DIR", "betterleaks.toml")).text()
    assert "http" + ".get" in corpus("DECODER_PACKS_DIR", "betterleaks.toml").read_text(encoding="utf-8")
    assert not re.search(r"http\.(get|post|put|delete)|^validate", text, re.MULTILINE)


def _by_itself(pack: str) -> str:
    """The pack with all rules reported, whatever they require, and with keywords that none of their regexes contains."""
    pack = re.sub(r"^keywords = \[[^]]*\]", 'keywords = ["quagga", "Zebra"]', pack, flags=re.MULTILINE)
    return re.sub(r"^skipReport = true$|^\[\[rules\.required\]\]\n(?:\w+ = .*\n)+", "", pack, flags=re.MULTILINE)


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "rules", "entropy", "allowlist"),
    [("gitleaks.toml", 217, 117, 160), ("betterleaks.toml", 406, 280, 310)],
)
def test_of_each_rule_keywords_entropy_and_allowlists_mean_what_an_emulator_says(
    name: str, rules: int, entropy: int, allowlist: int, tmp_path: Path, rules_cache: Path
) -> None:
    file = tmp_path / name
    file.write_text(_by_itself(corpus("DECODER_PACKS_DIR", name).read_text(encoding="utf-8")), encoding="utf-8")
    engine, emulator = Loaded(load(file), tmp_path, rules_cache), Emulator(tomllib.loads(file.read_text("utf-8")))
    differing, shown = [], Counter[str]()
    for rule in emulator.rules:
        for term in ("", "keywords", "entropy", "allowlist"):
            zebra = "a quagg" if term == "keywords" else "a ZEBRA"
            for text in (f"{zebra}\nand {text}\n and after\n" for text in emulator.documents(rule)):
                wanted = emulator.scan(text, rule)
                # A text tests a term if only this term discards the finding.
                if bool(wanted) != bool(term) and emulator.scan(text, rule, without=term):
                    shown[term] += 1
                    if wanted != {secret for each, secret in engine.scan(text) if each == rule}:
                        differing.append((rule, term, text))
                    break
    assert differing == []
    assert shown[""] == shown["keywords"] == len(emulator.rules) == rules
    # For the other rules no text matches the regex and is discarded by entropy or an allowlist: 18 digits are no placeholder.
    assert shown["entropy"] >= entropy
    assert shown["allowlist"] >= allowlist
