# syntax=docker/dockerfile:1

# Rust on the Debian whose C library the program will be given. Built for another architecture, each stage runs on it
# (docker buildx build --platform linux/amd64,linux/arm64).
ARG RUST_IMAGE=rust:1-slim-bookworm
FROM ${RUST_IMAGE} AS build
WORKDIR /build
# SQLite and the TLS library are compiled by gcc; the last stage takes the certificates from this one.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates gcc libc6-dev make \
    && rm -rf /var/lib/apt/lists/*
COPY Cargo.toml Cargo.lock ./
# The manifest names the benches, so cargo needs their files although it does not build them.
COPY benches ./benches
COPY crates ./crates
COPY src ./src
# Both caches outlive a change of the source, so that only the two crates of the workspace are built again.
ARG PROFILE=dist
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --profile "$PROFILE" --locked --bin qwen-bridge \
    && cp "target/$PROFILE/qwen-bridge" /qwen-bridge
# The files of the image: the program, the shared libraries that it names, certificates, and a user.
RUN mkdir -p /image/data /image/tmp /image/etc/ssl/certs /image/usr/local/bin \
    && cp /qwen-bridge /image/usr/local/bin/ \
    && ldd /qwen-bridge | grep -o '/[^ ]*' | xargs -I '{}' cp --parents --dereference '{}' /image/ \
    && cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ \
    && echo 'hosts: files dns' >/image/etc/nsswitch.conf \
    && echo 'nonroot:x:65532:65532:nonroot:/data:/sbin/nologin' >/image/etc/passwd \
    && echo 'nonroot:x:65532:' >/image/etc/group \
    && chmod 1777 /image/tmp \
    && chmod 700 /image/data \
    && chown 65532:65532 /image/data

FROM scratch
COPY --from=build /image /
# cookie.txt, config.json and .env are looked for here, too. A mounted folder must belong to the user below.
WORKDIR /data
# The allocator of the C library gives freed memory back at once, and does not learn from large bodies to keep it.
ENV PATH=/usr/local/bin \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    STATE_DIR=/data \
    SERVER_HOST=0.0.0.0 \
    MALLOC_MMAP_THRESHOLD_=131072 \
    MALLOC_TRIM_THRESHOLD_=131072
VOLUME /data
EXPOSE 8000
ARG RUN_AS=65532:65532
USER ${RUN_AS}
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s --retries=3 \
    CMD ["/usr/local/bin/qwen-bridge", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/qwen-bridge"]
