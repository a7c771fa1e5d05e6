"""The ledger's model with an operator: replaying and discarding also keep «one terminal state, one result»."""

from __future__ import annotations

import pytest
import redis
from hypothesis.stateful import invariant, rule

from mission.audit.log import AuditLog
from mission.model import State
from mission.operate.dead_letters import DeadLetters
from mission.store.ledger import Ledger
from tests.unit.mission.store.test_ledger_model import LedgerModel, run_model
from worker.settings import WorkerSettings


class OperatorModel(LedgerModel):
    """That careless world, with an operator who handles its dead letters."""

    letters: DeadLetters

    def __init__(self) -> None:
        super().__init__()
        self.discarded: set[str] = set()

    @rule(mission=LedgerModel.missions)
    def replay(self, mission: str) -> None:
        before = self.ledger.status(mission)
        done = self.letters.replay(mission, why="a test")
        assert done is (before.state is State.DEAD and mission not in self.discarded)
        if done:
            self.replays += 1
            self.ended.pop(mission, None)
            assert self.ledger.status(mission).attempts == 0
        else:
            assert self.ledger.status(mission) == before, "a refused replay changed something"

    @rule(mission=LedgerModel.missions)
    def discard(self, mission: str) -> None:
        before = self.ledger.status(mission)
        done = self.letters.discard(mission, why="a test")
        assert done is (before.state is State.DEAD and mission not in self.discarded)
        self.discarded |= {mission} if done else set()
        assert self.ledger.status(mission) == before

    @invariant()
    def the_dead_that_were_not_discarded_are_the_letters(self) -> None:
        dead = {mission for mission in self.ids if self.ledger.status(mission).state is State.DEAD}
        assert {letter.id for letter in self.letters.find()} == dead - self.discarded


@pytest.mark.server("thousands of steps: fakeredis takes ten times as long")
@pytest.mark.full
def test_no_interleaving_with_replays_breaks_one_terminal_state_and_one_result(
    ledger: Ledger, client: redis.Redis, settings: WorkerSettings, audit: AuditLog
) -> None:
    letters = DeadLetters(client, settings, audit)
    run_model(OperatorModel, 40, ledger=ledger, client=client, letters=letters)
