# One image for every role of the fleet: the service, the Flower processes, the edge nodes and the jobs.

# The list of dependencies alone: another edit of pyproject.toml then leaves the costly layer below as it is.
FROM python:3.11-slim AS requirements
COPY pyproject.toml constraints.txt /
RUN python -c "import tomllib; print(*tomllib.load(open('/pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" \
    > /requirements.txt

FROM python:3.11-slim
# A CPU-only torch saves gigabytes: --build-arg PIP_EXTRA_INDEX_URL=<an index that carries it>. Unset, pip decides.
ARG PIP_EXTRA_INDEX_URL
COPY --from=requirements /requirements.txt /constraints.txt /
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check --prefer-binary \
        -c /constraints.txt -r /requirements.txt setuptools \
    && mkdir /data && chown 10001:10001 /data

ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    FLWR_HOME=/tmp/flwr \
    FLWR_TELEMETRY_ENABLED=0 \
    FLWR_DISABLE_UPDATE_CHECK=1 \
    FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION=1 \
    OMP_NUM_THREADS=1

# Installed in place: `flwr run /app` bundles the same files that the service imports.
WORKDIR /app
COPY . .
RUN pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation -e . \
    && python -m compileall -q common policies client server cli

# A number, not a name: orchestrators can then prove that it is not root. /data is the only place it may write.
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8000 && printf 'GET /readyz HTTP/1.0\\r\\n\\r\\n' >&3 && grep -q '^HTTP/1.. 200' <&3"]
CMD ["reticent", "server", "serve", "--host", "0.0.0.0", "--port", "8000"]
