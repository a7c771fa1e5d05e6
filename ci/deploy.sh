#!/bin/sh
# Deploys the image of digest.txt to the cluster of $1 (staging or prod) with the values of that name, once its signature and its list of parts
# hold, and hands the revision on. Goes back by itself when it does not get ready in time. What somebody has changed by hand is taken back.
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
