"""The scenarios by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from tests.chaos.follower_scenarios import kill_followers
from tests.chaos.producer_scenarios import backlog, bad_messages, lost_messages, one_key
from tests.chaos.report import Report, Scale
from tests.chaos.store_scenarios import failover, full_disk, full_redis, kill_redis, partition
from tests.chaos.worker_scenarios import deadly_mission, hostile_document, kill_workers, rolling_sigterm, wrong_clocks

SCENARIOS: Final[Mapping[str, Callable[[Scale], Report]]] = {
    "kill-workers": kill_workers,
    "kill-redis": kill_redis,
    "full-redis": full_redis,
    "full-disk": full_disk,
    "failover": failover,
    "partition": partition,
    "rolling-sigterm": rolling_sigterm,
    "wrong-clocks": wrong_clocks,
    "deadly-mission": deadly_mission,
    "hostile-document": hostile_document,
    "bad-messages": bad_messages,
    "one-key": one_key,
    "backlog": backlog,
    "lost-messages": lost_messages,
    "kill-followers": kill_followers,
}
