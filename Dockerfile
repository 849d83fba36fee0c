# Images of the service.
#
#     docker build -t segue:cpu .                    # the last stage
#     docker build -t segue:cuda --target cuda .     # for NVIDIA cards
#
# Both bring Ray, so the same image is the front, the head and the workers of a cluster, and the
# built-in checkpoint.  Other checkpoints lie in the volume /models, jobs and results in /state.
ARG PYTHON=3.12-slim-bookworm

FROM python:${PYTHON} AS wheel
WORKDIR /build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY requirements/image.lock requirements/
RUN pip install --no-deps --require-hashes -r requirements/image.lock
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY src src
# The wheel of a platform brings the native engine's library, so the image needs no C compiler.
RUN SEGUE_WHEEL="linux-$(uname -m)" pip wheel --no-deps --no-build-isolation --wheel-dir dist .

FROM python:${PYTHON} AS packages
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PATH=/opt/segue/bin:$PATH
RUN python -m venv /opt/segue
COPY requirements/cluster.lock requirements/
RUN pip install --no-deps --require-hashes -r requirements/cluster.lock

FROM packages AS cuda-packages
COPY requirements/cuda.lock requirements/
# MLX's CPU and CUDA packages bring a file of the same name: the one that is installed last runs.
RUN pip install --no-deps --require-hashes -r requirements/cuda.lock \
    && sed -n '/^mlx-cuda-13==/,/[^\\]$/p' requirements/cuda.lock > requirements/last.lock \
    && pip install --no-deps --require-hashes --force-reinstall -r requirements/last.lock

FROM python:${PYTHON} AS base
# KubeRay's probes call wget.
RUN apt-get update \
    && apt-get install -y --no-install-recommends wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --user-group --create-home segue \
    && install -d -o segue -g segue /state /models
ENV PATH=/opt/segue/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    RAY_USAGE_STATS_ENABLED=0 \
    SEGUE_STATE=/state \
    HF_HOME=/models/huggingface \
    XDG_CACHE_HOME=/models/cache
COPY deploy/health.py /usr/local/share/segue/
VOLUME ["/state", "/models"]
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s --retries=3 \
    CMD ["python", "/usr/local/share/segue/health.py"]
ENTRYPOINT ["segue"]
# Beyond loopback it wants a token: give it as SEGUE_TOKEN.
CMD ["serve", "--host", "0.0.0.0"]

FROM base AS cuda
# For NVIDIA's container runtime, which brings the driver's libraries.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=cuda-packages /opt/segue /opt/segue
RUN --mount=type=bind,from=wheel,source=/build/dist,target=/dist pip install --no-cache-dir --no-deps /dist/*.whl
USER segue
WORKDIR /home/segue

FROM base AS cpu
COPY --from=packages /opt/segue /opt/segue
RUN --mount=type=bind,from=wheel,source=/build/dist,target=/dist pip install --no-cache-dir --no-deps /dist/*.whl
USER segue
WORKDIR /home/segue
