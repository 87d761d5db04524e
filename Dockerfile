# The GPU profiles in a container; wants the NVIDIA container toolkit and a driver for CUDA 13. It has never been built, for want of a
# container engine: a linter reads it in the tests, and that is all that was checked.
#   docker build -t corea .
#   docker run --gpus all --ipc=host -e HF_TOKEN --name corea -v corea-hub:/home/corea/hub -v corea-work:/corea/artifacts corea
#   docker cp corea:/corea/paper_figures/gpu-ci .
# Another profile: put `results PROFILE=paper-1gpu` at the end of the second line; `gpu` there runs what wants a GPU among the tests.

# devel, since Triton and FlashInfer compile kernels on the machine that they run on
FROM nvidia/cuda:13.0.3-devel-ubuntu24.04

# Ubuntu keeps no older versions of its packages, so that these could not be pinned for long
# hadolint ignore=DL3008
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        make python3.12 python3.12-dev python3.12-venv && \
    rm -rf /var/lib/apt/lists/* && \
    useradd --create-home --uid 10001 corea && \
    install -d -o corea -g corea /corea /corea/artifacts /home/corea/hub

USER 10001:10001
WORKDIR /corea
ENV EXTRAS=dev,gpu \
    HF_HOME=/home/corea/hub \
    PATH=/corea/.venv/bin:$PATH \
    PIP_NO_CACHE_DIR=1 \
    PROFILE=gpu-ci \
    PYTHON=python3.12

# the packages first: a change of the sources leaves this layer as it is
COPY --chown=corea:corea constraints.txt pyproject.toml README.md LICENSE ./
COPY --chown=corea:corea .ci/setup .ci/setup
COPY --chown=corea:corea corea/__init__.py corea/__init__.py
RUN bash .ci/setup

COPY --chown=corea:corea . .

# checkpoints and data from the hub; trainings under way
VOLUME ["/home/corea/hub", "/corea/artifacts"]
ENTRYPOINT ["make"]
CMD ["results"]
