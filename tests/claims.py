"""Claims of chosen missions. A worker cannot choose: it gets the missions whose turn it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mission.store.changes import Claimed
from mission.store.ledger import Ledger
from mission.store.names import INDEX_OF, Key


def claim_these(ledger: Ledger, ids: Sequence[str], count: int, lease_seconds: float, **options: Any) -> Claimed:
    """Claim these as if no other mission waited: the first `count` of them by age."""
    client, others = ledger.client, dict[Key, dict[bytes, float]]()
    wanted = {id_.encode() for id_ in ids}
    for priority, index in INDEX_OF.items():
        client.delete(Key.RING + priority)
        found: Any = client.zrange(index, 0, -1, withscores=True)
        others[index] = {id_: score for id_, score in found if id_ not in wanted}
        if others[index]:
            client.zrem(index, *others[index])
    try:
        return ledger.claim(count, lease_seconds, **options)
    finally:
        for index, rest in others.items():
            if rest:
                client.zadd(index, rest)
