#!/bin/sh
# Puts the image's list of parts (sbom.cdx.json) on record beside its signature, by this job's identity (SIGSTORE_ID_TOKEN).
set -eu
. "$(dirname "$0")/pins.sh"
log_in
cosign attest --yes --type cyclonedx --predicate sbom.cdx.json "$IMAGE_REPOSITORY@$(cat digest.txt)"
