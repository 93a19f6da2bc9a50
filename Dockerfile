# The bot as an image. Postgres or a volume for the SQLite file comes from outside.
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY requirements.lock pyproject.toml README.md LICENSE ./
RUN python -m venv /opt/tocsin && /opt/tocsin/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY bot bot
COPY runbooks runbooks
COPY templates templates
RUN /opt/tocsin/bin/pip install --no-cache-dir --no-deps .

FROM python:3.11-slim-bookworm
# For runbooks that work on other hosts, and for Chinese and Japanese in PDFs.
RUN apt-get update -q && apt-get install -y -q --no-install-recommends openssh-client fonts-droid-fallback && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/tocsin /opt/tocsin
RUN useradd --system --create-home --home-dir /var/lib/tocsin tocsin
USER tocsin
WORKDIR /var/lib/tocsin
ENV PATH=/opt/tocsin/bin:$PATH TOCSIN_HOST=0.0.0.0 TOCSIN_PORT=8080 TOCSIN_CONFIG=/etc/tocsin TOCSIN_LOG=json
EXPOSE 8080
CMD ["sh", "-c", "tocsin migrate && exec tocsin run"]
