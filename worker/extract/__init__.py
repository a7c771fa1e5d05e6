"""Extraction: from a document's bytes to the secrets that stand in it."""

from worker.extract.charset import decode_body
from worker.extract.markers import MAX_SECRETS, Extractor

__all__ = ["MAX_SECRETS", "Extractor", "decode_body"]
