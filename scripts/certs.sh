#!/usr/bin/env bash
# Makes a CA to try TLS with, and certificates of it; needs openssl. For production take a CA that is kept elsewhere.
#
#   scripts/certs.sh DIR [NAME[,HOST...]]...     by default `node` and `client`
#
# DIR gets ca.pem and ca-key.pem, and for each NAME a NAME.pem and NAME-key.pem, for NAME, every HOST (a name or an IP
# address), localhost, 127.0.0.1 and ::1. Each serves both ends of a connection. What is there of the CA is kept, and
# certificates are made anew: so they are renewed. DAYS is how long they hold, 90 by default.
#
# A NAME with / at its end gets them in a folder of its own, DIR/NAME, with a copy of ca.pem: what one container needs to see.
set -euo pipefail
dir=${1:?usage: scripts/certs.sh DIR [NAME[,HOST...]]...}
shift
[ $# -gt 0 ] || set -- node client
mkdir -p "$dir"
# Keys are for their owner alone.
umask 077

# Says what openssl says only when it fails.
quiet() {
    local said
    said=$("$@" 2>&1) || {
        printf '%s\n' "$said" >&2
        exit 1
    }
}

make_ca() {
    quiet openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj '/CN=Primacy trial CA' \
        -addext 'keyUsage=critical,keyCertSign,cRLSign' -keyout "$dir/ca-key.pem" -out "$dir/ca.pem"
    chmod 644 "$dir/ca.pem"
}

# A pair replaces the old one by renaming, so that nobody reads half a file.
make_certificate() {
    local name=${1%%,*} to=$dir hosts host names='DNS:localhost,IP:127.0.0.1,IP:::1'
    IFS=, read -ra hosts <<<"${1/\//}"
    if [[ $name == */ ]]; then
        name=${name%/}
        to=$dir/$name
        mkdir -p "$to"
        cp "$dir/ca.pem" "$to"
    fi
    for host in "${hosts[@]}"; do
        if [[ $host =~ ^[0-9.]+$ || $host == *:* ]]; then names+=",IP:$host"; else names+=",DNS:$host"; fi
    done
    quiet openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$name" \
        -keyout "$to/.$name-key.pem" -out "$to/.$name.csr"
    quiet openssl x509 -req -in "$to/.$name.csr" -CA "$dir/ca.pem" -CAkey "$dir/ca-key.pem" -days "${DAYS:-90}" \
        -set_serial "0x$(openssl rand -hex 16)" -out "$to/.$name.pem" -extfile <(
            printf '%s\n' "subjectAltName=$names" 'extendedKeyUsage=serverAuth,clientAuth' \
                'keyUsage=critical,digitalSignature' 'basicConstraints=critical,CA:FALSE'
        )
    rm "$to/.$name.csr"
    chmod 644 "$to/.$name.pem"
    mv "$to/.$name-key.pem" "$to/$name-key.pem"
    mv "$to/.$name.pem" "$to/$name.pem"
}

[ -f "$dir/ca.pem" ] || make_ca
for certificate; do
    make_certificate "$certificate"
done
