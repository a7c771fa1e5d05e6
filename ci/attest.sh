#!/bin/sh
# Attests the image's SBOM (sbom.cdx.json) with this job's identity (SIGSTORE_ID_TOKEN), beside the signature.
set -eu
. "$(dirname "$0")/pins.sh"
log_in
cosign attest --yes --type cyclonedx --predicate sbom.cdx.json "$IMAGE_REPOSITORY@$(cat digest.txt)"
