# distd in one image: API, UI and worker, for linux/amd64 and linux/arm64.
#
#   docker run -d -p 8470:8470 -v distd:/data distd
#
# Nothing is compiled or fetched when the container starts; the root file system may be read-only and no capability is needed.

FROM python:3.12-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build

# Each file of the lock, held against its digest. Source packages (biplist) become wheels here.
COPY requirements.lock ./
RUN pip wheel --quiet --no-deps --require-hashes --wheel-dir wheels --requirement requirements.lock

# dist.db needs an SQLite without the WAL-reset bug (3.51.3 or later); Debian's has it. The wheel of pysqlite3 brings a fixed one, but
# exists for x86-64 only. Elsewhere its source is compiled together with the amalgamation that better-sqlite3 carries: a registry
# never changes a file, so the digest can be pinned.
ARG SQLITE_URL=https://registry.npmjs.org/better-sqlite3/-/better-sqlite3-12.11.1.tgz
ARG SQLITE_SHA256=ebf0ed75a7a59dbcb3b24bbd014ef49d9f15bc328e4adcbf516f2a8fadfa2835
ARG PYSQLITE="pysqlite3==0.6.1 --hash=sha256:dd7d2b7f3a29aebdbf569c359658b091d3345b5691d9ea765a5c3febe8872bf9"
RUN set -eu; [ "$(uname -m)" = x86_64 ] && exit 0; \
    apt-get update -qq; \
    apt-get install -qq -y --no-install-recommends gcc libc6-dev; \
    echo "$PYSQLITE" >pysqlite.txt; \
    pip download --quiet --no-deps --no-binary :all: --require-hashes --requirement pysqlite.txt; \
    python -c 'import sys, urllib.request; urllib.request.urlretrieve(*sys.argv[1:])' "$SQLITE_URL" sqlite.tgz; \
    echo "$SQLITE_SHA256  sqlite.tgz" | sha256sum --check --quiet; \
    mkdir pysqlite3; \
    tar -xzf pysqlite3-*.tar.gz -C pysqlite3 --strip-components=1; \
    tar -xzf sqlite.tgz -C pysqlite3 --strip-components=3 package/deps/sqlite3/sqlite3.c package/deps/sqlite3/sqlite3.h; \
    pip wheel --quiet --no-deps --wheel-dir wheels ./pysqlite3

COPY pyproject.toml README.md LICENSE ./
COPY api api
COPY cli cli
COPY pipeline pipeline
COPY ui ui
COPY workers workers
RUN pip wheel --quiet --no-deps --wheel-dir wheels . \
 && python -m venv --without-pip /opt/distd \
 && pip --python /opt/distd/bin/python install --quiet --no-index --find-links wheels 'distd[server,scale]' pysqlite3


FROM python:3.12-slim
# 7zip reads disk images and installers; started by the workers, confined.
RUN apt-get update -qq \
 && apt-get install -qq -y --no-install-recommends 7zip \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 distd \
 && useradd --uid 10001 --gid 10001 --home-dir /data --no-create-home --shell /usr/sbin/nologin distd \
 && install -d -o distd -g distd -m 0750 /data

COPY --from=build /opt/distd /opt/distd
RUN 7zz i >/dev/null \
 && /opt/distd/bin/python -c 'from pysqlite3.dbapi2 import sqlite_version_info as v; assert v >= (3, 51, 3), v'

ENV PATH=/opt/distd/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DISTD_HOST=0.0.0.0 \
    DISTD_DATA_DIR=/data
USER 10001:10001
WORKDIR /
VOLUME /data
EXPOSE 8470
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ.get('DISTD_PORT', '8470')}/healthz\", timeout=4)"]
LABEL org.opencontainers.image.title="distd" \
      org.opencontainers.image.description="A private app store for everything a team ships" \
      org.opencontainers.image.licenses="Apache-2.0"
CMD ["distd", "up"]
