# Fixed targets of the pipeline, for scripts and jobs to source. In GitLab, variables given at the start of a pipeline override those of the
# file, of the project and of GitLab itself. So this file reads none of them, and refuses variables of these names. Yours: the first block.
GITLAB=https://gitlab.example.com
PROJECT=$GITLAB/decoder/decoder
IMAGE_REPOSITORY=registry.example.com/decoder/decoder/decoder
PROMETHEUS=https://prometheus.example.com

for name in CHART DIGEST HELM_TIMEOUT IMAGE KUBE_CONTEXT NAMESPACE PROMETHEUS_URL RECIPIENT_FILE RELEASE ROLLBACK_TO; do
  if eval "[ -n \"\${$name+set}\" ]"; then
    echo "error: $name is set: the pipeline takes no such variable, see ci/pins.sh" >&2
    exit 2
  fi
done
if [ "${CI_PROJECT_URL:-$PROJECT}" != "$PROJECT" ]; then
  echo "error: ci/pins.sh is for $PROJECT, this is $CI_PROJECT_URL" >&2
  exit 2
fi
# Settings of the tools, which could set another root of trust, another cluster, or findings to ignore.
for name in $(env | sed -n 's/^\([A-Z][A-Z0-9_]*\)=.*/\1/p'); do
  case $name in
    *_IMAGE | SIGSTORE_ID_TOKEN | TRIVY_USERNAME | TRIVY_PASSWORD) ;;
    COSIGN_* | HELM_* | SIGSTORE_* | TRIVY_* | TUF_*) unset "$name" ;;
  esac
done

CHART=helm/decoder
RELEASE=decoder
NAMESPACE=decoder
# A rollback may take 5 minutes.
HELM_TIMEOUT=4m
# The signer: the pipeline of the protected branch, certified by the GitLab instance.
SIGNER=$PROJECT//.gitlab-ci.yml@refs/heads/main
ISSUER=$GITLAB

# Use the cluster of an environment, through the agent of that name.
use_cluster() {
  case $1 in
    staging | prod) kubectl config use-context "decoder/agents:$1" ;;
    *) echo "error: takes staging or prod, got $1" >&2; exit 2 ;;
  esac
}

# Log cosign in to the registry.
log_in() {
  DOCKER_CONFIG=$(mktemp -d)
  export DOCKER_CONFIG
  printf '%s' "$CI_REGISTRY_PASSWORD" | cosign login --username "$CI_REGISTRY_USER" --password-stdin "$CI_REGISTRY"
}

# Exit unless main's pipeline has signed this digest and attested its SBOM.
verify_image() {
  if ! printf '%s' "$1" | grep -qxE 'sha256:[0-9a-f]{64}'; then
    echo "error: no image has been handed on" >&2
    exit 1
  fi
  cosign verify --certificate-identity "$SIGNER" --certificate-oidc-issuer "$ISSUER" "$IMAGE_REPOSITORY@$1" > /dev/null || {
    echo "error: $1 is not signed by $SIGNER" >&2
    exit 1
  }
  cosign verify-attestation --type cyclonedx --certificate-identity "$SIGNER" --certificate-oidc-issuer "$ISSUER" \
    "$IMAGE_REPOSITORY@$1" > /dev/null || {
    echo "error: $1 has no SBOM attested by $SIGNER" >&2
    exit 1
  }
}
