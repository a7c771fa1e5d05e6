"""`python -m tests.quality [low|medium]`: precision, recall and F1 on the labelled documents, and what was found wrongly."""

from __future__ import annotations

import sys
from functools import partial

from tests.quality.corpus import documents
from tests.quality.detection import Confidence, scan
from tests.quality.scoring import score, table

if __name__ == "__main__":
    confidence: Confidence = "medium" if "medium" in sys.argv[1:] else "low"
    print(table({half: score(documents(half), partial(scan, confidence=confidence)) for half in ("seen", "held_out")}))
