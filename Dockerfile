# Worker and Flower in one image. The base is an argument without a default, so that no build depends on the current target of a tag
# (use a digest): BASE_IMAGE=docker.io/library/python:3.13-slim-bookworm@sha256:…
ARG BASE_IMAGE

FROM ${BASE_IMAGE} AS build
# With a date (1980's first) Python ties what it compiles to the sources' text and not to their time, which --timestamp changes.
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore SOURCE_DATE_EPOCH=315532800
WORKDIR /src
# Locked packages change seldom, the code often: one layer each. There is no compiler here, so only wheels.
COPY requirements/image.txt requirements/
RUN python -m venv --without-pip /opt/decoder \
 && python -m pip --python /opt/decoder/bin/python install --require-hashes --only-binary :all: --requirement requirements/image.txt
COPY pyproject.toml README.md LICENSE ./
COPY mission mission
COPY producer producer
COPY worker worker
# setuptools builds the decoder and is then removed: the running image does not need it.
RUN python -m pip --python /opt/decoder/bin/python install --no-deps --no-build-isolation . \
 && python -m pip --python /opt/decoder/bin/python uninstall --yes setuptools

FROM ${BASE_IMAGE}
ARG VERSION
ARG COMMIT
LABEL org.opencontainers.image.title="decoder" \
      org.opencontainers.image.description="Fetches mission URLs, extracts the secrets they hold and seals them" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}"
COPY --from=build /opt/decoder /opt/decoder
ENV PATH=/opt/decoder/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    DECODER_COMMIT=${COMMIT} \
    DECODER_RULES_CACHE=/opt/decoder/rules
# Remove the base's own installer too. The build fails if the image's label would be wrong.
RUN /usr/local/bin/python -m pip uninstall --yes setuptools wheel pip \
 && rm -rf /usr/local/lib/python3.*/ensurepip \
 && test "$(decoder --version)" = "decoder ${VERSION} (commit ${COMMIT})"
RUN install --directory --owner=65532 --group=65532 --mode=0700 "${DECODER_RULES_CACHE}"
USER 65532:65532
WORKDIR /tmp
# Compile rules here once, not at each start, which takes seconds. The running user must own them, or the worker ignores them.
RUN decoder rules list > /dev/null
EXPOSE 9464 5555
# Exec form: the worker is process 1 and gets SIGTERM itself. Flower: `celery -A worker.app flower`.
ENTRYPOINT ["decoder"]
CMD ["worker"]
