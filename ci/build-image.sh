#!/bin/sh
# Builds this commit's image, pushes it with the commit as its tag, signs its digest, and writes the digest to digest.txt.
set -eu
. "$(dirname "$0")/pins.sh"
case "$BASE_IMAGE" in
  *@sha256:*) ;;
  *) echo "error: BASE_IMAGE must be an image with a digest, got $BASE_IMAGE" >&2; exit 2 ;;
esac
version=$(sed -n 's/^VERSION = "\(.*\)"$/\1/p' mission/version.py)
export REGISTRY_AUTH_FILE="$HOME/.docker/config.json"
mkdir -p "$HOME/.docker"
printf '%s' "$CI_REGISTRY_PASSWORD" | buildah login --username "$CI_REGISTRY_USER" --password-stdin "$CI_REGISTRY"
# The commit's time: the same commit gives the same layers.
buildah build --format oci --timestamp "$(git log -1 --format=%ct)" \
  --build-arg "BASE_IMAGE=$BASE_IMAGE" --build-arg "VERSION=$version" --build-arg "COMMIT=$CI_COMMIT_SHA" \
  --label "org.opencontainers.image.source=$CI_PROJECT_URL" --label "org.opencontainers.image.base.name=$BASE_IMAGE" \
  --tag "$IMAGE_REPOSITORY:$CI_COMMIT_SHA" .
buildah push --digestfile digest.txt "$IMAGE_REPOSITORY:$CI_COMMIT_SHA"
# Keyless, with this job's identity (SIGSTORE_ID_TOKEN).
cosign sign --yes "$IMAGE_REPOSITORY@$(cat digest.txt)"
