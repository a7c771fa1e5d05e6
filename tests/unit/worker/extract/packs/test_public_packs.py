"""The public packs of gitleaks and betterleaks: all rules load, or are named; and gitleaks' mean what they mean in gitleaks.

They are no part of this repository (https://github.com/gitleaks/gitleaks, https://github.com/betterleaks/betterleaks, both MIT).
DECODER_PACKS_DIR names the folder with `gitleaks.toml` and `betterleaks.toml`.
"""

from __future__ import annotations

import os
import re
import tempfile
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from tests.unit.worker.extract.packs.emulator import Emulator, Texts
from tests.unit.worker.extract.packs.engine import Loaded
from worker.extract.packs import Pack, load
from worker.extract.packs.trial import unloadable

_BESIDE = Path(__file__).parents[6] / "shared" / "corpora" / "rules"


def _file(name: str) -> Path:
    file = Path(os.environ.get("DECODER_PACKS_DIR") or _BESIDE) / name
    if not file.is_file():
        reason = f"{name} is not there: set DECODER_PACKS_DIR to a folder that has it"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return file


@pytest.fixture(scope="module")
def gitleaks() -> Pack:
    return load(_file("gitleaks.toml"))


@pytest.fixture(scope="module")
def engine(gitleaks: Pack, tmp_path_factory: pytest.TempPathFactory, rules_cache: Path) -> Loaded:
    return Loaded(gitleaks, tmp_path_factory.mktemp("gitleaks"), rules_cache)


@pytest.fixture(scope="module")
def emulator() -> Emulator:
    return Emulator(tomllib.loads(_file("gitleaks.toml").read_text(encoding="utf-8")))


@pytest.mark.full
@pytest.mark.parametrize(("name", "rules", "loaded"), [("gitleaks.toml", 222, 221), ("betterleaks.toml", 412, 411)])
def test_every_rule_loads_or_is_named(name: str, rules: int, loaded: int, rules_cache: Path) -> None:
    file = _file(name)
    pack = load(file)
    assert unloadable(pack, rules_cache) == ()
    assert len(tomllib.loads(file.read_text(encoding="utf-8"))["rules"]) == rules
    with tempfile.TemporaryDirectory() as folder:
        assert len(Loaded(pack, Path(folder), rules_cache).rules) == len(pack.rules) == loaded
    assert [left.rule for left in pack.left_out if left.rule] == ["pkcs12-file"]


def test_every_rules_line_is_that_of_its_id(gitleaks: Pack) -> None:
    lines = gitleaks.file.read_text(encoding="utf-8").split("\n")
    assert all(lines[rule.line - 1] == f'id = "{rule.id}"' for rule in gitleaks.rules)


def test_nothing_of_the_network_comes_to_the_engine() -> None:
    text = load(_file("betterleaks.toml")).text()
    assert "http" + ".get" in _file("betterleaks.toml").read_text(encoding="utf-8")
    assert not re.search(r"http\.(get|post|put|delete)|^validate", text, re.MULTILINE)


def _documents(emulator: Emulator, seed: int) -> dict[str, str]:
    """For each rule a text that its regex matches, among words: some dull, some without the keyword, some with a stopword."""
    documents = {}
    for number, (name, (_rule, regex)) in enumerate(emulator.rules.items()):
        text = Texts(seed * 1000 + number, dull=seed % 3 == 1).of(regex)
        if seed % 3 == 2:
            half = len(text) * 2 // 3
            text = text[:half] + "example" + text[half:]
        documents[name] = f"some words before\nand {text}\n and after\n"
    return documents


@pytest.mark.full
@pytest.mark.parametrize("seed", range(6))
def test_gitleaks_rules_find_what_an_emulator_of_gitleaks_finds(engine: Loaded, emulator: Emulator, seed: int) -> None:
    differing = {}
    total = 0
    for name, text in _documents(emulator, seed).items():
        wanted = emulator.scan(text)
        found = {each for each in engine.scan(text) if each[0] in emulator.rules}
        total += len(wanted)
        if wanted != found:
            differing[name] = wanted ^ found
    assert differing == {}
    assert total > 40


@pytest.mark.full
def test_the_emulator_covers_nearly_all_rules_and_each_of_their_terms(gitleaks: Pack, emulator: Emulator) -> None:
    assert len(emulator.rules) > 0.9 * len(gitleaks.rules)
    terms = Counter(term for rule, _regex in emulator.rules.values() for term in rule)
    assert {"keywords", "entropy", "allowlists", "secretGroup"} <= terms.keys()
