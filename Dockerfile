# syntax=docker/dockerfile:1

FROM rust:1-slim-bookworm AS build
WORKDIR /build
# The C compiler that SQLite and the TLS library need comes with the image's gcc; this asks for it by name.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev make \
    && rm -rf /var/lib/apt/lists/*
COPY Cargo.toml Cargo.lock ./
# The manifest names the benches, so cargo needs their files although it does not build them.
COPY benches ./benches
COPY crates ./crates
COPY src ./src
# Both caches outlive a change of the source, so that only the two crates of the workspace are built again.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --release --locked --bin qwen-bridge \
    && cp target/release/qwen-bridge /qwen-bridge \
    && mkdir /data

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /qwen-bridge /usr/local/bin/qwen-bridge
# 65532 is the user "nonroot" of this image. A mounted folder must belong to it.
COPY --from=build --chown=65532:65532 --chmod=700 /data /data
# cookie.txt, config.json and .env are looked for here, too.
WORKDIR /data
# The allocator of the C library gives freed memory back at once, and does not learn from large bodies to keep it.
ENV STATE_DIR=/data \
    SERVER_HOST=0.0.0.0 \
    MALLOC_MMAP_THRESHOLD_=131072 \
    MALLOC_TRIM_THRESHOLD_=131072
VOLUME /data
EXPOSE 8000
USER 65532:65532
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s --retries=3 \
    CMD ["/usr/local/bin/qwen-bridge", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/qwen-bridge"]
