FROM rust:1-bookworm AS build
WORKDIR /build
# Line numbers would treble the binary; backtraces keep the names.
ENV CARGO_PROFILE_RELEASE_DEBUG=none
# The dependencies first, under empty crates: a layer that lasts until one of them changes.
COPY Cargo.toml Cargo.lock ./
COPY crates/election/Cargo.toml crates/election/
COPY crates/prime/Cargo.toml crates/prime/
RUN mkdir -p src crates/election/src crates/prime/src crates/prime/benches \
    && echo 'fn main() {}' | tee build.rs src/main.rs crates/prime/benches/kernel.rs crates/prime/benches/sieve.rs \
    && touch src/lib.rs crates/election/src/lib.rs crates/prime/src/lib.rs \
    && cargo build --release --locked --package primacy
COPY . .
# Cargo goes by times, and the files may be older than the empty crates.
RUN touch build.rs src/lib.rs src/main.rs crates/*/src/lib.rs \
    && cargo build --release --locked --package primacy

FROM debian:bookworm-slim
COPY --from=build /build/target/release/primacy /usr/local/bin/
# No name and no home: it needs neither.
USER 10001:10001
# Others can reach it, so it starts only with a PRIMACY_TOKEN, or with PRIMACY_INSECURE=1.
ENV PORT=50051 PRIMACY_HTTP_ADDR=0.0.0.0:8080
# Its own node alone, whatever PRIMACY_ENDPOINTS says.
HEALTHCHECK --interval=3s --timeout=3s --start-period=5s --retries=3 \
    CMD addr="${PRIMACY_GRPC_ADDR:-:$PORT}"; exec primacy health --endpoints "127.0.0.1:${addr##*:}"
ENTRYPOINT ["primacy"]
CMD ["node"]
