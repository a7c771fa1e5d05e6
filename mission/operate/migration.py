"""What a new release brings to the server, by whoever deploys it: each step does nothing where it is done already."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import redis

from mission.store import library
from mission.store.connection import outages

_SAYS = {
    library.Loaded.LOADED: "loaded library {number}",
    library.Loaded.REPLACED: "replaced by library {number}",
    library.Loaded.KEPT: "library {number} is there",
    library.Loaded.NEWER: "a newer library than {number} is there and stays",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One step: what it is about, how it came out in a word, and in a sentence."""

    step: str
    outcome: str
    detail: str

    def as_dict(self) -> dict[str, str]:
        """The same for JSON."""
        return asdict(self)


def migrate(client: redis.Redis) -> list[Step]:
    """Every step, in order.

    Raises:
        LedgerUnavailable: Redis does not answer, or refuses.
        DecoderError: what is there is not the decoder's.
    """
    with outages():
        loaded = library.load(client)
    return [Step("functions", loaded.value, _SAYS[loaded].format(number=library.LIBRARY))]
