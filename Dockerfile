# The program with its page, beside a ClickHouse of its own (docker-compose.yml). The embedded ClickHouse is not in the image.

FROM node:22-bookworm-slim AS page
WORKDIR /source/dashboard
COPY dashboard/package.json dashboard/package-lock.json dashboard/.npmrc ./
RUN npm ci
COPY dashboard/ ./
RUN npm run build

FROM rust:1.95-bookworm AS program
WORKDIR /source
COPY . .
COPY --from=page /source/dashboard/dist dashboard/dist
RUN cargo build --release --locked -p streamgauge-api \
    && install -D target/release/streamgauge /out/streamgauge \
    && strip --strip-debug /out/streamgauge

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="Streamgauge" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 streamgauge \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin streamgauge \
    && install -d -o streamgauge -g streamgauge -m 700 /data
COPY --from=program /out/streamgauge /usr/local/bin/streamgauge
COPY LICENSE /usr/share/doc/streamgauge/LICENSE
USER streamgauge
VOLUME /data
EXPOSE 8080 5433 50051
# Inside a container loopback reaches nobody, so the program listens on all addresses of the container. There is no authentication yet:
# publish the port on loopback only, as docker-compose.yml does, or put a proxy that authenticates in front.
ENV STREAMGAUGE_DATA_DIR=/data \
    STREAMGAUGE_HTTP=0.0.0.0:8080 \
    STREAMGAUGE_ALLOW_REMOTE=true
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s --retries=3 CMD ["streamgauge", "health"]
ENTRYPOINT ["streamgauge"]
CMD ["serve"]
