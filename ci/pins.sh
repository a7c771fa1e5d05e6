# What runs where, for scripts and jobs to source. In GitLab the variables of whoever starts a pipeline win over those of the file, of
# the project and of GitLab itself. So nothing here is read from one, and a variable of such a name is refused. Yours: the first block.
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
  echo "error: ci/pins.sh is of $PROJECT, this is $CI_PROJECT_URL" >&2
  exit 2
fi
# Settings of the tools: a root of trust of one's own, another cluster, a scan that ignores.
for name in $(env | sed -n 's/^\([A-Z][A-Z0-9_]*\)=.*/\1/p'); do
  case $name in
    *_IMAGE | SIGSTORE_ID_TOKEN | TRIVY_USERNAME | TRIVY_PASSWORD) ;;
    COSIGN_* | HELM_* | SIGSTORE_* | TRIVY_* | TUF_*) unset "$name" ;;
  esac
done

CHART=helm/decoder
RELEASE=decoder
NAMESPACE=decoder
# Less than 5 minutes, which is what a rollback may take.
HELM_TIMEOUT=4m
# Who signs: the pipeline of the protected branch, by the instance's word.
SIGNER=$PROJECT//.gitlab-ci.yml@refs/heads/main
ISSUER=$GITLAB

# The cluster of an environment: that of the agent of its name.
use_cluster() {
  case $1 in
    staging | prod) kubectl config use-context "decoder/agents:$1" ;;
    *) echo "error: takes staging or prod, got $1" >&2; exit 2 ;;
  esac
}

# The registry, for cosign.
log_in() {
  DOCKER_CONFIG=$(mktemp -d)
  export DOCKER_CONFIG
  printf '%s' "$CI_REGISTRY_PASSWORD" | cosign login --username "$CI_REGISTRY_USER" --password-stdin "$CI_REGISTRY"
}

# Ends the script unless main's pipeline has signed this digest and put its list of parts on record.
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
    echo "error: $1 has no list of parts (SBOM) by $SIGNER" >&2
    exit 1
  }
}
