"""The only source of the version: git tags like `v1.0.0` and the chart follow it. An image also names its commit."""

import os

VERSION = "1.0.0"
COMMIT = os.environ.get("DECODER_COMMIT", "unknown")
