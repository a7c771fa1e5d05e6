#!/bin/sh
# Verifies the signature and the SBOM of the image in digest.txt. Deploys it to the cluster of $1 (staging or prod) with the values of that name,
# and writes the revision to deploy.env. Rolls back if the release is not ready in time. Overwrites manual changes in the cluster.
set -eu
. "$(dirname "$0")/pins.sh"
log_in
digest=$(cat digest.txt)
verify_image "$digest"
use_cluster "$1"
echo "DEPLOYED_AT=$(date +%s)" > deploy.env
helm upgrade --install "$RELEASE" "$CHART" --namespace "$NAMESPACE" --values "$CHART/values-$1.yaml" \
  --set "image.repository=$IMAGE_REPOSITORY" --set "image.digest=$digest" \
  --server-side=true --force-conflicts --rollback-on-failure --wait --timeout "$HELM_TIMEOUT" --history-max 20
echo "REVISION=$(helm history "$RELEASE" --namespace "$NAMESPACE" --max 1 | awk 'END { print $1 }')" >> deploy.env
