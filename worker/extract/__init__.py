"""Extraction: from a document's bytes to the secrets that stand in it."""

from worker.extract.charset import decode_body
from worker.extract.findings import MAX_SECRETS
from worker.extract.markers import Extractor

__all__ = ["MAX_SECRETS", "Extractor", "decode_body"]
