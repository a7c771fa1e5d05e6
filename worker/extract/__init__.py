"""Extraction: from a document's bytes to the secrets in it."""

from worker.extract.detectors import Detectors
from worker.extract.extractor import Extractor
from worker.extract.findings import MAX_SECRETS

__all__ = ["MAX_SECRETS", "Detectors", "Extractor"]
