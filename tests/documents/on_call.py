"""Somebody on call who has nothing but the runbook: goes through an alert's section and tells what does not hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from mission.audit.log import AuditLog
from mission.operate.dead_letters import DeadLetters
from mission.seal.sealing import Identity
from tests.documents.cluster import Cluster
from tests.documents.document import Block, blocks
from tests.documents.shell import MISUSE, Typed, type_in
from tests.drill.stage import Stage

# What the drill's site is called in the runbook.
HOSTS = (r"docs\.example\.com", r"127\.0\.0\.\d")


class OnCall:
    """Works on a stage, through the stand-in of its cluster.

    Args:
        stage: what is in trouble.
        cluster: its stand-in.
        folder: where to type.
    """

    def __init__(self, stage: Stage, cluster: Cluster, folder: Path) -> None:
        self._stage = stage
        self._cluster = cluster
        self._folder = folder
        (folder / "somebody.pub").write_text(Identity.generate().recipient.text + "\n")

    def confirm(self, alert: str) -> list[str]:
        """What the section's "confirm" commands should have shown and did not."""
        return [
            f"{alert}: the runbook's `{typed.command.line}` does not show {pattern}:\n{typed.text}"
            for block in sections(alert, "confirm")
            for typed in self.type(block)
            for pattern in ([*typed.missing] or ["how it is called"] * (typed.code in MISUSE))
        ]

    def fix(self, alert: str) -> list[str]:
        """Which of the section's "fix" commands did not work."""
        return [
            f"{alert}: the runbook's fix failed: {typed}"
            for block in sections(alert, "fix")
            for typed in self.type(block)
            if typed.code
        ]

    def scale_back(self) -> None:
        """As many workers as there were at first: a block may be half of a pair, like stopping all work."""
        self._cluster.scale_back()

    def have_missions_end(self) -> None:
        """One with secrets, one without."""
        for path in ("good", "plain"):
            self._stage.client.wait(self._stage.client.enqueue(f"{self._stage.site.url}/{path}").id, timeout=60)

    def type(self, block: Block) -> list[Typed]:
        """Run a block here."""
        return type_in(
            block, self._env(), self._folder, as_here=lambda text: text.replace(*HOSTS).replace("[1m]", "[5s]")
        )

    def _env(self) -> Mapping[str, str]:
        """What a reader has filled in."""
        hosts = self._stage.workers.values["allowed_hosts"].split(",")
        return {
            "PATH": str(self._cluster.path),
            "PROMETHEUS_URL": self._stage.prometheus,
            "DECODER_REDIS_URL": self._stage.server.login_url("operator"),
            "ID": self._some_mission(),
            "URL": f"{self._stage.site.url}/good",
            "GOOD_HOSTS": ",".join(host for host in hosts if not host.startswith("127.0.0.2:")),
            "SUBMITTER": "somebody",
            "FILE": "somebody.pub",
            "REVISION": "1",
            "STUCK": "2",
        }

    def _some_mission(self) -> str:
        """A dead one, where there is one."""
        if self._stage.server.pid is None:
            return ""
        letters = DeadLetters(
            self._stage.redis, self._stage.settings, AuditLog(self._stage.redis, emit=lambda line: None)
        )
        dead = next(iter(letters.find()), None)
        return dead.id if dead else self._stage.client.enqueue(f"{self._stage.site.url}/good").id


def sections(alert: str, tag: str) -> Iterable[Block]:
    """The blocks of an alert's section that are for this."""
    return [block for block in blocks() if block.section == alert and block.tag == tag]
