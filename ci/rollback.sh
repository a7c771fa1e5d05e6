#!/bin/sh
# Rolls back the cluster of $1 (staging or prod) to the newest successful revision of a release older than the running
# release. Helm itself would choose the previous revision, which after a rollback is the bad release. With $2, only if that revision runs.
# The deployment verified the image's signature, so a rollback does not need the registry.
set -eu
. "$(dirname "$0")/pins.sh"
use_cluster "$1"
history=$(helm history "$RELEASE" --namespace "$NAMESPACE" --output yaml)
running=$(echo "$history" | sed -n 's/^[- ] revision: //p' | tail -n 1)
if [ $# -gt 1 ] && [ "$2" != "$running" ]; then
  echo "revision $running runs, not $2: nothing to roll back"
  exit 0
fi
before=$(echo "$history" | awk '
  # The keys of a revision are in alphabetical order: description, revision, status.
  $1 == "description:" { origin = /: Rollback to [0-9]+/ ? $NF : 0 }
  $1 == "revision:" { last = $2; release[last] = origin ? (origin in release ? release[origin] : origin) : last }
  $1 == "status:" { works[last] = $2 == "superseded" || $2 == "deployed" }
  END { for (r = last - 1; r > 0; r--) if (works[r] && release[r] + 0 < release[last] + 0) { print r; exit } }')
if [ -z "$before" ]; then
  echo "error: no successful release before revision $running: choose a revision by hand, see RUNBOOK.md" >&2
  exit 1
fi
# Also overwrite manual changes, such as the number of workers, which Helm 4 would otherwise refuse.
helm rollback "$RELEASE" "$before" --namespace "$NAMESPACE" --server-side=true --force-conflicts --wait --timeout "$HELM_TIMEOUT"
helm history "$RELEASE" --namespace "$NAMESPACE" --max 3
