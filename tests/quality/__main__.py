"""`python -m tests.quality [low|medium]`: precision, recall and F1 on the labelled documents, and the false findings."""

from __future__ import annotations

import sys
from functools import partial

from mission.model import Confidence
from tests.quality.corpus import HALVES, documents
from tests.quality.detection import scan
from tests.quality.scoring import score, table

if __name__ == "__main__":
    least = Confidence(sys.argv[1] if sys.argv[1:] else "low")
    print(table({half: score(documents(half), partial(scan, least=least)) for half in HALVES}))
