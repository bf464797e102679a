# One image for every role; what a container is stands in its command.
FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore \
    FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1 FLWR_HOME=/tmp/flower HOME=/tmp

# Dependencies change seldom: layers of their own, the largest first.
COPY constraints.txt /src/
RUN grep '^torch==' /src/constraints.txt > /tmp/torch.txt && pip install --no-cache-dir -c /src/constraints.txt -r /tmp/torch.txt
COPY pyproject.toml /src/
RUN python3 -c "import tomllib; print(*tomllib.load(open('/src/pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" > /tmp/dependencies.txt \
    && pip install --no-cache-dir -c /src/constraints.txt -r /tmp/dependencies.txt
COPY . /src/
RUN pip install --no-cache-dir --no-deps /src && rm -rf /src/build /tmp/*.txt && python3 -m compileall -q "$(python3 -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/hansa" || true

# A named volume takes owner and mode from the folder it is mounted over.
RUN groupadd --system --gid 10001 hansa && useradd --system --uid 10001 --gid hansa --home-dir /tmp --shell /usr/sbin/nologin hansa \
    && python3 -m hansa.cli.mounts /instance \
    && chown -R hansa:hansa /instance
USER hansa
WORKDIR /tmp
ENTRYPOINT ["hansa"]
