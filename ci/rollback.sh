#!/bin/sh
# Goes back to the revision before, or to ROLLBACK_TO. With $1, only if that revision is what runs.
set -eu
kubectl config use-context "$KUBE_CONTEXT"
running=$(helm history "$RELEASE" --namespace "$NAMESPACE" --max 1 | awk 'END { print $1 }')
if [ $# -gt 0 ] && [ "$1" != "$running" ]; then
  echo "revision $running runs, not $1: nothing to take back"
  exit 0
fi
# Without a revision Helm takes the one before. The argument is left out when the variable is empty.
helm rollback "$RELEASE" ${ROLLBACK_TO:+"$ROLLBACK_TO"} --namespace "$NAMESPACE" --wait --timeout "$HELM_TIMEOUT"
helm history "$RELEASE" --namespace "$NAMESPACE" --max 3
