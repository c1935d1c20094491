# The service, with a library in the volume /data:
#   docker build -t moodfield .
#   docker run -p 127.0.0.1:8000:8000 -e MOODFIELD_TOKEN=… -v moodfield:/data -v ~/Music:/music:ro moodfield
FROM python:3.12-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY src ./src
RUN python -m venv /opt/moodfield
RUN /opt/moodfield/bin/pip install --no-cache-dir -c constraints.txt ".[serve]"

FROM python:3.12-slim
COPY --from=build /opt/moodfield /opt/moodfield
RUN useradd --system --uid 10001 --home-dir /data --create-home moodfield
USER moodfield
ENV PATH=/opt/moodfield/bin:$PATH MOODFIELD_DB=/data/library.db
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["moodfield", "serve", "--host", "0.0.0.0", "--port", "8000"]
