#!/bin/sh
# Deploys the image of DIGEST to the environment of this job with the values of $1 (staging or prod), and hands the revision on.
# Goes back by itself when it does not get ready in time.
set -eu
: "${DIGEST:?no image has been handed on}" "${RECIPIENT_FILE:?takes a file with the public key of the reader}"
kubectl config use-context "$KUBE_CONTEXT"
echo "DEPLOYED_AT=$(date +%s)" > deploy.env
helm upgrade --install "$RELEASE" "$CHART" --namespace "$NAMESPACE" --values "$CHART/values-$1.yaml" \
  --set "image.repository=$IMAGE" --set "image.digest=$DIGEST" --set-file "recipients.default=$RECIPIENT_FILE" \
  --rollback-on-failure --wait --timeout "$HELM_TIMEOUT" --history-max 20
echo "REVISION=$(helm history "$RELEASE" --namespace "$NAMESPACE" --max 1 | awk 'END { print $1 }')" >> deploy.env
