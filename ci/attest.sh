#!/bin/sh
# Attests the image's SBOM (sbom.cdx.json) beside its signature, with this job's identity (SIGSTORE_ID_TOKEN).
set -eu
. "$(dirname "$0")/pins.sh"
log_in
cosign attest --yes --type cyclonedx --predicate sbom.cdx.json "$IMAGE_REPOSITORY@$(cat digest.txt)"
