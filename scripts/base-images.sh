#!/usr/bin/env bash
# Sees to the base images of the Dockerfile: pulls them or, where no registry answers, makes stand-ins of the same names
# out of Debian's packages and this machine's Rust.
set -euo pipefail

debian=debian:bookworm-slim
rust=rust:1-bookworm
label=primacy.stand-in=true

say() { printf '   %s\n' "$*" >&2; }

is_here() { docker image inspect "$1" >/dev/null 2>&1; }

as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi; }

install_debootstrap() {
    command -v debootstrap >/dev/null || [ -x /usr/sbin/debootstrap ] && return
    as_root apt-get update -qq
    DEBIAN_FRONTEND=noninteractive as_root apt-get install -qq -y --no-install-recommends debootstrap >/dev/null
}

make_debian() {
    say "making $debian with debootstrap"
    install_debootstrap
    as_root /usr/sbin/debootstrap --variant=minbase bookworm "$work/root" >"$work/log" 2>&1 || { cat "$work/log" >&2; return 1; }
    as_root tar -C "$work/root" --one-file-system \
        --exclude='./var/cache/apt/*' --exclude='./var/lib/apt/lists/*' --exclude='./usr/share/doc/*' \
        --exclude='./usr/share/man/*' --exclude='./usr/share/locale/*' --exclude='./dev/*' -c . |
        docker import --change "LABEL $label" --change 'CMD ["bash"]' - "$debian" >/dev/null
}

# The registry of crates may be behind a proxy that this machine trusts: its certificates go along.
make_rust() {
    say "making $rust with this machine's Rust"
    local certificates=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
    mkdir "$work/context"
    cp -L "$certificates" "$work/context/certificates.crt"
    cat >"$work/context/Dockerfile" <<EOF
FROM $debian
LABEL $label
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
COPY certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY toolchain /usr/local/
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt CARGO_HTTP_CAINFO=/etc/ssl/certs/ca-certificates.crt
EOF
    tar -c -C "$work/context" Dockerfile certificates.crt \
        -C "$(rustc --print sysroot)" --transform='flags=r;s,^\(bin\|lib\|libexec\),toolchain/\1,' bin lib libexec |
        docker build -q -t "$rust" - >/dev/null
}

main() {
    if is_here "$debian" && is_here "$rust"; then return; fi
    if timeout 10 docker pull -q "$debian" >/dev/null 2>&1; then
        say "pulling $rust"
        timeout 900 docker pull -q "$rust" >/dev/null
        return
    fi
    say "no registry answers; \`docker rmi $rust $debian\` takes the stand-ins away"
    work=$(mktemp -d)
    trap 'as_root rm -rf "$work"' EXIT
    is_here "$debian" || make_debian
    is_here "$rust" || make_rust
}

main
