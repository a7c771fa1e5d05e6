"""The one source of the version: `v1.0.0` tags in git follow it, and the chart's. An image says which commit it is of."""

import os

VERSION = "1.0.0"
COMMIT = os.environ.get("DECODER_COMMIT", "unknown")
