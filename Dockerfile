FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends make
WORKDIR /src
COPY . .
# The caches persist between builds and are not part of the image, so the binary is copied out.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --profile dist --bin threadtap \
    && install target/dist/threadtap /threadtap

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && install -d -m 0700 -o 65532 -g 65532 /var/lib/threadtap
COPY --from=build /threadtap /usr/local/bin/threadtap
# The admin listener stays on loopback: only the network namespace of the container (for a sidecar,
# the pod) can reach it. THREADTAP_ADMIN_LISTEN opens it.
ENV THREADTAP_LISTEN=0.0.0.0:8080 \
    THREADTAP_DATA_DIR=/var/lib/threadtap
USER 65532:65532
VOLUME /var/lib/threadtap
EXPOSE 8080 9090
ENTRYPOINT ["threadtap"]
