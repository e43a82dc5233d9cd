# The gateway in front of upstreams: no engine, no numpy, no compiler in the image.
#
#   deploy/docker/build.sh gateway
#
# The base is pinned by its digest, which has no default: an image whose base is not known cannot be
# built (`build.sh` says how to look it up, and checks its form). Python packages are pinned by hash.
ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm
ARG PYTHON_DIGEST

FROM ${PYTHON_IMAGE}@${PYTHON_DIGEST} AS build
# Debian keeps one version of a package: a pinned one would be gone with the next security fix.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY deploy/docker/build.txt deploy/docker/gateway.txt ./
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r build.txt \
    && python -m venv --without-pip /opt/isthmus \
    && /opt/build/bin/pip --python /opt/isthmus/bin/python install --no-cache-dir \
        --require-hashes --only-binary :all: -r gateway.txt
COPY pyproject.toml README.md LICENSE ./
COPY proto proto
COPY kernels kernels
COPY edge edge
COPY router router
COPY cloud cloud
ENV PATH=/opt/build/bin:$PATH
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels . \
    && pip --python /opt/isthmus/bin/python install --no-cache-dir --no-deps --no-index \
        /wheels/isthmus-*.whl

FROM ${PYTHON_IMAGE}@${PYTHON_DIGEST}
COPY --from=build /opt/isthmus /opt/isthmus
# The one folder that is written to: the ledger, where no PostgreSQL is. Mount a volume there.
RUN install -d -o 65532 -g 65532 /var/lib/isthmus
ENV PATH=/opt/isthmus/bin:$PATH \
    ISTHMUS_HOME=/var/lib/isthmus \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 65532:65532
WORKDIR /var/lib/isthmus
EXPOSE 50051 9464
ENTRYPOINT ["isthmus"]
CMD ["cloud", "serve", "--config", "/etc/isthmus/cloud.toml"]
