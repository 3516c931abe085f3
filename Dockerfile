# brainage-bids as a container: docker run --rm -v DATA:/data:ro -v OUT:/out brainage-bids /data /out participant ...
# BASE can be replaced by any image with Python 3.11 and pip; pin it by digest for a study.
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}

# Nothing of the host leaks in; caches of nipype, matplotlib and torch go where any user can write.
ENV PYTHONNOUSERSITE=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    NO_ET=1 \
    NIPYPE_NO_ET=1 \
    MPLCONFIGDIR=/tmp/matplotlib \
    XDG_CACHE_HOME=/tmp/cache \
    IS_DOCKER_8395080871=1

WORKDIR /opt/brainage-bids
COPY constraints.txt ./
# torch alone and first: the largest layer changes least.
RUN python3 -m pip install -c constraints.txt torch
COPY pyproject.toml README.md LICENSE ./
COPY brainage_bids ./brainage_bids
RUN python3 -m pip install -c constraints.txt .
WORKDIR /tmp

# The image works before it is shipped.
RUN brainage-bids --version && brainage-tools recipes

ENTRYPOINT ["brainage-bids"]
