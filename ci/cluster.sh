#!/bin/sh
# Runs the cluster's tests with this pipeline's image, on the k3s that GitLab starts beside this job. k3s writes its kubeconfig to the file $1.
# The registry beside them is for the releases that the tests make from that image; it has no certificate.
set -eu
. "$(dirname "$0")/pins.sh"
export KUBECONFIG="$1"
timeout 120 sh -c 'until [ -s "$KUBECONFIG" ]; do sleep 1; done'
sed -i 's,https://127.0.0.1:,https://k3s:,' "$KUBECONFIG"
export REGISTRY_AUTH_FILE="$HOME/.docker/config.json"
mkdir -p "$HOME/.docker"
printf '%s' "$CI_REGISTRY_PASSWORD" | buildah login --username "$CI_REGISTRY_USER" --password-stdin "$CI_REGISTRY"
export CONTAINERS_REGISTRIES_CONF="$HOME/registries.conf"
printf '[[registry]]\nlocation = "registry:5000"\ninsecure = true\n' > "$CONTAINERS_REGISTRIES_CONF"
export CLUSTER_IMAGE="$IMAGE_REPOSITORY@$(cat digest.txt)" CLUSTER_REGISTRY=registry:5000/decoder
exec make cluster PYTHON=python
