# syntax=docker/dockerfile:1
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm
FROM ${PYTHON_IMAGE} AS build

WORKDIR /build
RUN python -m venv /opt/orderflow
COPY requirements.lock ./
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/orderflow/bin/pip install --require-hashes --requirement requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/orderflow/bin/pip install --no-deps .

FROM ${PYTHON_IMAGE}

RUN groupadd --system --gid 10001 orderflow \
    && useradd --system --uid 10001 --gid orderflow --home-dir /var/lib/orderflow --create-home orderflow
COPY --from=build /opt/orderflow /opt/orderflow
ENV PATH=/opt/orderflow/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    ORDERFLOW_HOST=0.0.0.0 \
    ORDERFLOW_LOG_FORMAT=json
USER 10001:10001
WORKDIR /var/lib/orderflow
STOPSIGNAL SIGTERM
ENTRYPOINT ["orderflow"]
CMD ["--help"]
