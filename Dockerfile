# Voxtral TTS over HTTP. Needs BuildKit, the default of Docker since version 23.
#
#   docker build -t voxtral-tts-api .
#   docker run --gpus all -p 8000:8000 voxtral-tts-api     # without --gpus it speaks on the CPU
#
# Build arguments:
#   VARIANT=cpu TORCH_INDEX=URL   a CPU-only torch from that package index, gigabytes smaller
#   MODEL=4b                      weights in the image: 8 GB under CC BY-NC 4.0; without it the image holds nano alone
#   EXTRAS=av,ja                  optional formats and languages of the package; by default av, for aac: PyAV, with GPL parts
#
# docs/SERVER.md says how to run it safely; compose.yaml does so.

FROM python:3.11-slim-bookworm AS base
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY constraints.txt ./


FROM base AS wheel
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --constraint constraints.txt hatchling
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY src src
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheel .


FROM base
# Torch first: the largest layer by far, and the one that changes least.
ARG VARIANT=cuda
ARG TORCH_INDEX=
RUN --mount=type=cache,target=/root/.cache/pip \
    case "$VARIANT" in \
    cuda) \
        # Triton builds the launchers of its kernels where they run, with a C compiler.
        apt-get update && \
        apt-get install --yes --no-install-recommends gcc libc6-dev && \
        rm -rf /var/lib/apt/lists/* && \
        pip install --constraint constraints.txt torch ;; \
    cpu) \
        pip install --constraint constraints.txt --no-deps torch --index-url \
            "${TORCH_INDEX:?is empty; VARIANT=cpu needs --build-arg TORCH_INDEX=URL, an index of CPU-only builds of torch}" ;; \
    *) \
        echo "VARIANT is $VARIANT; it must be cuda or cpu" >&2 && exit 1 ;; \
    esac

ARG EXTRAS=av
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    pip install --constraint constraints.txt "$(echo /wheel/*.whl)${EXTRAS:+[$EXTRAS]}"

ARG MODEL=
RUN if [ -n "$MODEL" ]; then voxtral download "$MODEL" --to /model && test -e /model/params.json; fi
ENV VOXTRAL_MODEL=${MODEL:+/model}

RUN useradd --uid 10001 --user-group --no-create-home --home-dir /cache --shell /usr/sbin/nologin voxtral && \
    install --directory --owner voxtral --group voxtral /cache /data
ENV HF_HOME=/cache/huggingface \
    TRITON_CACHE_DIR=/cache/triton \
    VOXTRAL_DATA_DIR=/data
# Models that `voxtral download` fetches, and voices made over HTTP.
VOLUME ["/cache", "/data"]

# INSECURE: whoever reaches the published port may use the server, and it warns of that when it starts. In a container
# every peer looks like the bridge, so that "this machine only" would refuse even you. Publish the port on 127.0.0.1
# (-p 127.0.0.1:8000:8000), or set VOXTRAL_API_KEY: with a key everybody needs one, whatever is said here.
ENV VOXTRAL_INSECURE=1

WORKDIR /
EXPOSE 8000
# Without urllib, which would ask a proxy that the environment names.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import http.client, sys; c = http.client.HTTPConnection('127.0.0.1', 8000, timeout=4); c.request('GET', '/livez'); sys.exit(c.getresponse().status != 200)"]
USER 10001:10001
CMD ["voxtral", "serve", "--host", "0.0.0.0", "--port", "8000"]
