#!/bin/sh
# Finds the image that main built and signed for this commit, gives it the release's tag, and writes its digest to digest.txt.
set -eu
. "$(dirname "$0")/pins.sh"
version=$(sed -n 's/^VERSION = "\(.*\)"$/\1/p' mission/version.py)
if [ "$CI_COMMIT_TAG" != "v$version" ]; then
  echo "error: the tag is $CI_COMMIT_TAG, mission/version.py says $version" >&2
  exit 2
fi
if ! grep -qF "## [$version]" CHANGELOG.md; then
  echo "error: CHANGELOG.md has no section for $version" >&2
  exit 2
fi
export REGISTRY_AUTH_FILE="$HOME/.docker/config.json"
mkdir -p "$HOME/.docker"
printf '%s' "$CI_REGISTRY_PASSWORD" | skopeo login --username "$CI_REGISTRY_USER" --password-stdin "$CI_REGISTRY"
digest=$(skopeo inspect --format '{{.Digest}}' "docker://$IMAGE_REPOSITORY:$CI_COMMIT_SHA") || {
  echo "error: no image of $CI_COMMIT_SHA: release a commit that main's pipeline has built" >&2
  exit 1
}
# The right to push images does not include the right to sign as main's pipeline.
verify_image "$digest"
skopeo copy --preserve-digests "docker://$IMAGE_REPOSITORY@$digest" "docker://$IMAGE_REPOSITORY:$CI_COMMIT_TAG"
echo "$digest" > digest.txt
