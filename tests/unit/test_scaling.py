"""docs/SCALING.md: its tables match the output of `decoder capacity`, and it shows how the model was checked."""

from __future__ import annotations

import re

import pytest

from benchmarks.capacity import FITTED, OFF, PREDICTED, Measured, Setup, fit, least_squares, predictions
from ci.scaling import CHECKS, DOCUMENT, END, EXAMPLE, LOADS, RETENTIONS, loads, printed, with_tables
from worker.costs import MODEL


def test_the_tables_are_in_step_with_the_command() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text == with_tables(text), "run `python -m ci.scaling`"
    assert printed(EXAMPLE) in text
    assert loads().count("\n") == 1 + len(LOADS) * len(RETENTIONS)


def test_what_is_set_here_does_not_reach_the_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    before = loads()
    monkeypatch.setenv("DECODER_LEDGER_TTL", "1d")
    assert loads() == before


def test_the_document_shows_every_check_of_a_run_that_passed() -> None:
    block = DOCUMENT.read_text(encoding="utf-8").partition(CHECKS)[2].partition(END)[0]
    offs = [int(off) for off in re.findall(r"([+-]\d+)% \|$", block, re.MULTILINE)]
    assert len(offs) == 6 * len(PREDICTED)
    assert max(map(abs, offs)) <= 100 * OFF


def test_least_squares_find_the_line_through_points_that_do_not_lie_on_one() -> None:
    assert least_squares([[1, 0], [1, 1], [1, 2]], [1, 2, 6]) == pytest.approx([0.5, 2.5])


def test_the_fit_finds_the_model_that_made_the_figures_and_predicts_with_it() -> None:
    def exact(setup: Setup) -> Measured:
        if not setup.latency_ms:
            cost = MODEL.cost(**setup.parts)
            return Measured(1000 / cost.worker_ms, cost, MODEL.slot_ms)
        slots = setup.concurrency, setup.latency_ms
        cost = MODEL.cost(**setup.parts, waiting_seconds=MODEL.waiting(*slots))
        return Measured(MODEL.of_slots(*slots), cost, MODEL.slot_ms)

    model = fit([(setup, exact(setup)) for setup in FITTED], MODEL.stored)
    for setup in PREDICTED:
        checks = list(predictions(model, setup, exact(setup)))
        assert len(checks) == 6
        assert all(abs(check.off) < 0.02 for check in checks), checks
