"""Costs: they add up, and waiting is charged by the second."""

from __future__ import annotations

from dataclasses import fields

from worker.costs import MODEL, MOST_LOTS, Cost


def test_costs_add_up() -> None:
    total = Cost(1, 2, 3, 4, 5) + Cost(1, 1, 1, 1, 1) * 2
    assert [getattr(total, one.name) for one in fields(Cost)] == [3, 4, 5, 6, 7]


def test_a_mission_shares_the_waiting_of_its_worker_with_the_others_of_that_second() -> None:
    assert MODEL.waiting(32, 0.0) == 1 / MODEL.of_slots(32, 0.0)
    assert MODEL.waiting(1, 60_000.0) == 1 / MOST_LOTS, "by itself it makes no more than one lot"
