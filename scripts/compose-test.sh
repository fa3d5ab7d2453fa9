#!/usr/bin/env bash
# Runs the cluster in containers and does to it what people do: asks, stops a worker, kills the leader; then with TLS; then
# over etcd, with ten workers more. Takes the ports that docker-compose.yml publishes; without a Docker engine it leaves all out.
set -euo pipefail
cd "$(dirname "$0")/.."

passed=0
failed=0
nodes=(leader worker1 worker2 worker3)
ports=(8080 8081 8082 8083)
files=(--file docker-compose.yml)
# How its HTTP ports are asked.
scheme=http
trust=()
work=$(mktemp -d)

say() { printf '%4s s  %s\n' "$SECONDS" "$*"; }

summary() { printf '%s passed, %s failed%s\n' "$passed" "$failed" "${1-}"; }

leave_out() {
    say "left out: $1"
    summary ", 1 skipped"
    exit 0
}

# What a check prints is shown if it fails; a command in a condition does not stop at an error, hence the && in checks.
check() {
    local what=$1
    shift
    if "$@" >"$work/output" 2>&1; then
        passed=$((passed + 1))
        say "ok      $what"
    else
        failed=$((failed + 1))
        say "FAILED  $what"
        tail -n 30 "$work/output"
    fi
}

# Waits until a command succeeds, for so many seconds at most.
within() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.1
    done
}

compose() { "${tool[@]}" --project-name "$project" "${files[@]}" "$@" </dev/null; }

inspect() { docker inspect --format "$2" "$(compose ps --all -q "$1")"; }

get() { curl -sS --fail --max-time 5 "${trust[@]}" "$scheme://localhost:$1" "${@:2}"; }

all_healthy() {
    local node
    for node in "${nodes[@]}"; do
        [ "$(inspect "$node" '{{.State.Health.Status}}')" = healthy ] || return 1
    done
}

status_of() { get 8080/cluster | grep -o "\"name\":\"$1\",[^}]*\"status\":\"[a-z]*\"" | sed 's/.*:"\(.*\)"/\1/'; }

four_alive() {
    local node
    for node in "${nodes[@]}"; do
        [ "$(status_of "$node")" = alive ] || return 1
    done
}

# All nodes on these ports follow it.
leads() {
    local name=$1 port
    shift
    for port in "$@"; do
        get "$port/cluster" | grep -F "\"leader\":{" | grep -E "\"leader\":\{[^}]*\"name\":\"$name\"" || return 1
    done
}

# Asked from inside, where a cut network does not matter.
answers_inside() {
    local node
    for node in "$@"; do
        compose exec -T "$node" primacy check 17 | grep '^17 is prime: true' || return 1
    done
}

follows_inside() {
    local name=$1 node
    shift
    for node in "$@"; do
        compose exec -T "$node" primacy status | grep -E "^$name +[0-9]+ .* leader " || return 1
    done
}

network_of() { docker network ls -q --filter "label=com.docker.compose.project=$project"; }

is_cut_off() { docker network disconnect "$(network_of)" "$(compose ps -q "$1")"; }

is_connected() { docker network connect --alias "$1" "$(network_of)" "$(compose ps -q "$1")"; }

# The status must be there: no answer is not a death.
not_alive() { status_of "$1" | grep -E '^(stopped|dead)$'; }

# Nine right answers, none of them by anyone but those named.
client_answers_by() {
    local number prime by
    by=$(IFS='|' && echo "$*")
    compose run --rm -T client >"$work/answers" && cat "$work/answers" && [ "$(wc -l <"$work/answers")" -eq 9 ] || return 1
    for number in {17..25}; do
        case $number in 17 | 19 | 23) prime=true ;; *) prime=false ;; esac
        grep -qxE "$number is prime: $prime \(processed by ($by)\)" "$work/answers" || return 1
    done
}

three_by_each_worker() {
    local worker
    client_answers_by worker1 worker2 worker3 || return 1
    for worker in worker1 worker2 worker3; do
        [ "$(grep -c "by $worker)" "$work/answers")" -eq 3 ] || return 1
    done
}

ports_answer() {
    local port
    for port in "$@"; do
        get "$port/prime/170141183460469231731687303715884105727" | grep '"is_prime":true' || return 1
    done
}

# grpc.health.v1 asked by curl: an empty message, answered by one that says SERVING.
grpc_ports_answer() {
    local port
    for port in "$@"; do
        printf '\0\0\0\0\0' | curl -sS --fail --max-time 5 --http2-prior-knowledge --data-binary @- \
            -H 'content-type: application/grpc' -H 'te: trailers' "localhost:$port/grpc.health.v1.Health/Check" |
            od -An -tx1 | grep '00 00 00 00 02 08 01' || return 1
    done
}

is_not_root() { [ "$(compose exec -T leader id -u)" -gt 0 ]; }

# Well below the time after which Docker would kill it.
stops_by_itself() {
    local started=$SECONDS node
    compose stop "$@" || return 1
    [ $((SECONDS - started)) -le 10 ] || return 1
    for node in "$@"; do
        [ "$(inspect "$node" '{{.State.ExitCode}}')" = 0 ] || return 1
    done
}

leader_logged() { compose logs leader | grep -F "$1"; }

leader_is_killed() { compose kill leader && [ "$(inspect leader '{{.State.ExitCode}}')" = 137 ] && ! get 8080/livez; }

nothing_is_left() {
    local of="label=com.docker.compose.project=$project"
    compose down --remove-orphans --volumes &&
        [ -z "$(docker ps -aq --filter "$of")$(docker volume ls -q --filter "$of")$(network_of)" ]
}

alive_are() { [ "$(get 8081/cluster | grep -o '"status":"alive"' | wc -l)" -eq "$1" ]; }

# Asked over POST, a prime and a composite.
are_right() {
    local port
    for port in "$@"; do
        get "$port/prime" -d '{"number": 9223372036854775783}' | grep '"is_prime":true' &&
            get "$port/prime" -d '{"number": 9223372036854775781}' | grep '"is_prime":false' ||
            return 1
    done
}

has_no_leader() { get "$1/cluster" >"$work/cluster" && ! grep -F '"leader":{' "$work/cluster"; }

nobody_leads() {
    local port
    for port in "$@"; do
        has_no_leader "$port" || return 1
    done
}

ballot() { get 8081/cluster | grep -oE '"leader":\{[^}]*"counter":[0-9]+' | grep -oE '[0-9]+$'; }

is_higher_than() { [ "$(ballot)" -gt "$1" ]; }

certificates_are_made() {
    local names=("${nodes[@]/%//}")
    scripts/certs.sh "$PRIMACY_CERTIFICATES" "${names[@]}" && chown -R "$PRIMACY_USER" "$PRIMACY_CERTIFICATES"
}

clear_text_is_refused() {
    local port
    for port in "$@"; do
        [ "$(curl -sS --max-time 5 -o /dev/null -w '%{http_code}' "http://localhost:$port/prime/17")" = 400 ] || return 1
    done
}

# curl's code for a certificate that it cannot trace to a CA.
is_not_believed_without_the_ca() { [ "$(curl -s --max-time 5 https://localhost:8080/livez || echo $?)" = 60 ]; }

shows_on() {
    local node=$1 port
    shift
    openssl x509 -noout -serial -in "$PRIMACY_CERTIFICATES/$node/$node.pem" >"$work/serial" || return 1
    for port in "$@"; do
        openssl s_client -connect "localhost:$port" -CAfile "$PRIMACY_CERTIFICATES/ca.pem" -verify_return_error </dev/null |
            openssl x509 -noout -serial | grep -xFf "$work/serial" || return 1
    done
}

certificates_are_shown() {
    local i
    for i in "${!nodes[@]}"; do
        shows_on "${nodes[i]}" "${ports[i]}" $((50051 + i)) || return 1
    done
}

starts() { compose ps -q | xargs docker inspect --format '{{.Name}} {{.State.StartedAt}}'; }

# One after the other at a port whose node stays, each over a connection of its own.
ask_all_the_while() {
    while [ -e "$work/asking" ]; do
        if ports_answer "$1" >/dev/null; then echo right; else echo wrong; fi
        sleep 0.05
    done >"$work/asked" 2>&1
}

none_failed() {
    rm "$work/asking" && wait "$asker" && ! grep -vx right "$work/asked" && [ "$(wc -l <"$work/asked")" -ge 50 ]
}

clean_up() {
    local code=$?
    [ -z "${project-}" ] || compose down --remove-orphans --volumes >/dev/null 2>&1 || true
    rm -rf "$work"
    exit "$code"
}

find_engine() {
    timeout 20 docker info >/dev/null 2>&1 || leave_out "no Docker engine"
    if docker compose version >/dev/null 2>&1; then
        tool=(docker compose)
    elif docker-compose version >/dev/null 2>&1; then
        tool=(docker-compose)
    else
        leave_out "no Docker Compose"
    fi
    project=primacy-test-$$
    say "with Docker Compose $("${tool[@]}" version --short)"
}

# One after the other, as a person would; what follows a failure mostly fails too, and shows it.
scenario() {
    say "the image has $(($(docker image inspect --format '{{.Size}}' primacy) / 1000000)) MB"
    check "four nodes are healthy" within 60 all_healthy
    check "/cluster shows four alive" within 10 four_alive
    check "the client gets nine right answers, three by each worker" three_by_each_worker
    check "every HTTP port answers" ports_answer 8080 8081 8082 8083
    check "every gRPC port answers" grpc_ports_answer 50051 50052 50053 50054
    check "a node does not run as root" is_not_root
    check "the leader warns of the trial token" leader_logged "the token is the trial value"

    check "worker2 stops by itself, with exit code 0" stops_by_itself worker2
    check "the leader logs: Worker worker2 is DEAD" within 10 leader_logged "Worker worker2 is DEAD"
    check "/cluster does not show it alive" within 10 not_alive worker2
    check "the client gets nine right answers by the other two" client_answers_by worker1 worker3
    check "worker2 starts" compose start worker2
    check "/cluster shows four alive" within 30 four_alive
    check "the client gets three answers by each worker" three_by_each_worker

    check "the leader is killed" leader_is_killed
    check "worker3 leads" within 10 leads worker3 8081 8082 8083
    check "the client gets nine right answers by the workers" client_answers_by worker1 worker2 worker3
    check "the workers' HTTP ports answer" ports_answer 8081 8082 8083
    check "the leader is back" compose up -d
    check "/cluster shows four alive" within 30 four_alive
    check "the leader leads again" within 30 leads leader 8080 8081 8082 8083
    check "the client gets three answers by each worker" three_by_each_worker

    check "the leader is paused" compose pause leader
    check "worker3 leads" within 10 leads worker3 8081 8082 8083
    check "the client gets nine right answers by the workers" client_answers_by worker1 worker2 worker3
    check "the leader goes on" compose unpause leader
    check "one leader, and all agree" within 10 leads worker3 8080 8081 8082 8083
    check "the leader leads again" within 30 leads leader 8080 8081 8082 8083

    check "the leader is cut off" is_cut_off leader
    check "the others follow worker3" within 10 follows_inside worker3 worker1 worker2 worker3
    check "both sides go on answering" answers_inside leader worker1 worker2 worker3
    check "each side sees its own leader" follows_inside leader leader
    check "the leader is connected" is_connected leader
    check "one leader, and all agree" within 20 follows_inside worker3 leader worker1 worker2 worker3
    check "the leader leads again" within 30 follows_inside leader leader worker1 worker2 worker3

    check "a worker is paused" compose pause worker2
    check "/cluster does not show it alive" within 10 not_alive worker2
    check "the client gets nine right answers by the other two" client_answers_by worker1 worker3
    check "the worker goes on" compose unpause worker2
    check "/cluster shows four alive" within 30 four_alive
    check "a worker is killed" compose kill worker2
    check "/cluster does not show it alive" within 10 not_alive worker2
    check "the client gets nine right answers by the other two" client_answers_by worker1 worker3
    check "the worker is back" compose up -d
    check "/cluster shows four alive" within 30 four_alive

    check "a worker is cut off" is_cut_off worker1
    check "both sides go on answering" answers_inside leader worker1
    check "the worker is connected" is_connected worker1
    check "one leader, and all agree" within 30 follows_inside leader leader worker1 worker2 worker3

    check "the leader stops by itself, with exit code 0" stops_by_itself leader
    check "worker3 leads" within 5 follows_inside worker3 worker1 worker2 worker3
    check "the client gets nine right answers by the workers" client_answers_by worker1 worker2 worker3
    check "the leader starts" compose start leader
    check "the leader leads again" within 30 leads leader 8080 8081 8082 8083
    check "the client gets three answers by each worker" three_by_each_worker

    check "all stop by themselves, with exit code 0" stops_by_itself "${nodes[@]}"
    check "nothing is left" nothing_is_left
}

# The same nodes, which speak nothing but TLS. They run as who owns the keys, which is no root even if root tests.
over_tls() {
    local before
    files=(--file docker-compose.yml --file docker-compose.tls.yml)
    export PRIMACY_CERTIFICATES=$work/certificates PRIMACY_USER
    PRIMACY_USER=$(id -u):$(id -g)
    [ "$PRIMACY_USER" != 0:0 ] || PRIMACY_USER=12345:12345
    scheme=https
    trust=(--cacert "$PRIMACY_CERTIFICATES/ca.pem")
    check "certificates are made" certificates_are_made
    check "four nodes are started with TLS" within 90 compose up -d
    check "four nodes are healthy" within 60 all_healthy
    check "/cluster shows four alive" within 10 four_alive
    check "the client gets nine right answers, three by each worker" three_by_each_worker
    check "every HTTP port answers" ports_answer "${ports[@]}"
    check "clear text gets 400" clear_text_is_refused "${ports[@]}"
    check "without the CA no node is believed" is_not_believed_without_the_ca
    check "every node shows its own certificate" certificates_are_shown
    check "each says from inside who leads" follows_inside leader "${nodes[@]}"
    touch "$work/asking"
    ask_all_the_while 8083 &
    asker=$!

    check "a worker is killed" compose kill worker2
    check "/cluster does not show it alive" within 10 not_alive worker2
    check "the client gets nine right answers by the other two" client_answers_by worker1 worker3
    check "the worker is back" compose start worker2
    check "/cluster shows four alive" within 30 four_alive

    check "the leader is killed" leader_is_killed
    check "worker3 leads" within 10 leads worker3 8081 8082 8083
    check "the others' answers are right" are_right 8081 8082 8083
    check "the leader is back" compose start leader
    check "/cluster shows four alive" within 30 four_alive

    before=$(starts)
    check "the certificates are renewed" certificates_are_made
    check "every node shows its new one" within 10 certificates_are_shown
    check "every one's answers are right" are_right "${ports[@]}"
    check "none was started again for it" [ "$(starts)" = "$before" ]
    check "nothing that was asked meanwhile has failed" none_failed
    check "nothing is left" nothing_is_left
    scheme=http
    trust=()
}

# The same nodes in clear text, which etcd tells who leads, and ten that only work.
over_etcd() {
    local before
    files=(--file docker-compose.yml --file docker-compose.etcd.yml)
    check "etcd's image is built" compose build
    check "fifteen containers are started" within 90 compose up -d --scale worker=10
    check "fourteen members are alive" within 60 alive_are 14
    check "the leader leads" within 30 leads leader "${ports[@]}"
    check "its answers are right" are_right 8080 8081
    before=$(ballot)

    check "the leader is killed" leader_is_killed
    check "another one leads" within 15 leads 'worker[123]' 8081 8082 8083
    check "by a higher ballot than $before" is_higher_than "$before"
    check "the others' answers are right" are_right 8081 8082 8083
    check "the leader is back" compose start leader
    check "fourteen members are alive" within 30 alive_are 14

    check "etcd is stopped" compose stop etcd
    check "nobody leads" within 15 nobody_leads "${ports[@]}"
    check "every one's answers are right" are_right "${ports[@]}"
    check "etcd is back" compose start etcd
    check "there is a leader" within 30 leads '[a-z]+[0-9]?' "${ports[@]}"
    check "fourteen members are alive" within 30 alive_are 14
    check "every one's answers are right" are_right "${ports[@]}"
    check "nothing is left" nothing_is_left
}

main() {
    trap clean_up EXIT
    find_engine
    check "the base images are here" scripts/base-images.sh
    [ "$failed" -gt 0 ] || check "the image is built" compose build
    # The system may have lent one of the ports to an outgoing connection, which it keeps for a minute.
    [ "$failed" -gt 0 ] || check "four nodes are started" within 90 compose up -d
    [ "$failed" -gt 0 ] || scenario
    [ "$failed" -gt 0 ] || over_tls
    [ "$failed" -gt 0 ] || over_etcd
    [ "$failed" -eq 0 ] || compose logs --tail 30 || true
    summary
    [ "$failed" -eq 0 ]
}

main
