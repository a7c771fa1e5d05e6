"""A person on call with only the runbook and no cluster: runs the commands of an alert's section and reports failures.

In a cluster, `tests/cluster/test_runbook.py` runs all of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from mission.audit.log import AuditLog
from mission.operate.dead_letters import DeadLetters
from tests.documents.document import Block, blocks
from tests.documents.shell import MISUSE, Typed, type_in
from tests.drill.stage import Stage

# The name of the drill's site in the runbook.
HOSTS = (r"docs\.example\.com", r"127\.0\.0\.\d")
# Programs, and functions of the set-up, that need a cluster.
_ASKS_A_CLUSTER = re.compile(r"\b(kubectl|helm|worker_logs|reasons|POD)\b")


class OnCall:
    """Works on a stage.

    Args:
        stage: the setup in trouble.
        folder: the working folder.
    """

    def __init__(self, stage: Stage, folder: Path) -> None:
        self._stage = stage
        self._folder = folder

    def confirm(self, alert: str) -> list[str]:
        """Expected output that the section's "confirm" commands did not show."""
        return [
            f"{alert}: the runbook's `{typed.command.line}` does not show {pattern}:\n{typed.text}"
            for block in sections(alert, "confirm")
            for typed in self.type(block)
            for pattern in ([*typed.missing] or ["how it is called"] * (typed.code in MISUSE))
        ]

    def fix(self, alert: str) -> list[str]:
        """The section's "fix" commands that failed."""
        return [
            f"{alert}: the runbook's fix failed: {typed}"
            for block in sections(alert, "fix")
            for typed in self.type(block)
            if typed.code
        ]

    def have_missions_end(self) -> None:
        """One with secrets, one without."""
        for path in ("good", "plain"):
            self._stage.client.wait(self._stage.client.enqueue(f"{self._stage.site.url}/{path}").id, timeout=60)

    def type(self, block: Block) -> list[Typed]:
        """Run a block's commands for a machine without a cluster."""
        return type_in(
            without_a_cluster(block),
            self._env(),
            self._folder,
            as_here=lambda text: text.replace(*HOSTS).replace("[1m]", "[5s]"),
        )

    def _env(self) -> Mapping[str, str]:
        """A reader's values for the placeholders."""
        return {
            "PROMETHEUS_URL": self._stage.prometheus,
            "DECODER_REDIS_URL": self._stage.server.login_url("operator"),
            "ID": self._some_mission(),
            "URL": f"{self._stage.site.url}/good",
        }

    def _some_mission(self) -> str:
        """A dead letter, if there is one."""
        if self._stage.server.pid is None:
            return ""
        letters = DeadLetters(
            self._stage.redis, self._stage.settings, AuditLog(self._stage.redis, emit=lambda line: None)
        )
        dead = next(iter(letters.find()), None)
        return dead.id if dead else self._stage.client.enqueue(f"{self._stage.site.url}/good").id


def without_a_cluster(block: Block) -> Block:
    """A block with only the commands that need no cluster."""
    return replace(block, commands=tuple(each for each in block.commands if not _ASKS_A_CLUSTER.search(each.line)))


def sections(alert: str, tag: str) -> Iterable[Block]:
    """The blocks of an alert's section with this tag."""
    return [block for block in blocks() if block.section == alert and block.tag == tag]
