# Shared by the end-to-end tests; sourced. No test sleeps: it waits for conditions, each with a deadline.

E2E=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$E2E/../.." && pwd)
CACHE=$(realpath -m "${BASALT_CACHE:-/var/cache/basalt}")
PASSED=0

# Told to end: what a test's own trap on EXIT cleans up is cleaned up, however often it is told.
trap 'trap "" INT TERM HUP; exit 143' INT TERM HUP

say() { echo "== $(elapsed) $*"; }
ok() { PASSED=$((PASSED + 1)); echo "ok $PASSED: $* ($(elapsed))"; }
fail() { echo "FAILED: $*" >&2; exit 1; }

# "12.3 s" since the test began.
elapsed() {
    local now=${EPOCHREALTIME/[.,]/} began=${E2E_BEGAN/[.,]/}
    printf '%d.%d s' $(((now - began) / 1000000)) $(((now - began) / 100000 % 10))
}
E2E_BEGAN=$EPOCHREALTIME

# COMMAND | finds PATTERN: grep -q that reads to the end. One that leaves at its first match makes a command that
# still writes fail, and with pipefail the pipeline.
finds() {
    local text
    text=$(cat)
    grep -q "$@" <<< "$text"
}

# Returns after a fifth of a second: nobody ever writes to this pipe.
pause_briefly() { read -rt 0.2 <> <(:) || :; }

# wait_until SECONDS WHAT COMMAND...: until COMMAND succeeds. What it said last is printed when time runs out.
wait_until() {
    local deadline=$((SECONDS + $1)) what=$2 output
    shift 2
    until output=$("$@" 2>&1); do
        if ((SECONDS >= deadline)); then
            printf '%s\n' "$output" >&2
            fail "$what: not within the limit"
        fi
        pause_briefly
    done
}

# none_left COMMAND...: it succeeds and prints nothing. One that fails, as when a server is away, proves nothing.
none_left() {
    local output
    output=$("$@") || return 1
    [[ -z $output ]] || { printf '%s\n' "$output"; return 1; }
}

# The program under test: the first argument, $BASALT, or the newest build.
find_basalt() {
    local program=${1:-${BASALT:-}}
    if [[ -z $program ]]; then
        program=$(ls -t "$ROOT"/build/{release,dev}/bin/basalt 2>/dev/null | head -n 1 || true)
    fi
    if [[ ! -x $program ]]; then fail "there is no basalt program; build it first"; fi
    echo "$program"
}

seconds_since() { awk -v now="$EPOCHREALTIME" -v then="$1" 'BEGIN {printf "%.1f s", now - then}'; }

# start_prober KUBECONFIG LOG ARGUMENT...: prober.py asks until end_prober; $prober_pid is it, for a clean-up.
start_prober() {
    local kubeconfig=$1
    prober_log=$2
    shift 2
    : >"$prober_log"
    python3 "$E2E/prober.py" --kubeconfig "$kubeconfig" --seconds 400 "$@" >"$prober_log" 2>&1 &
    prober_pid=$!
    wait_until 60 "the prober's first answers" grep -q '^probing' "$prober_log"
}

# Prints what was asked; false when something failed.
end_prober() {
    local status=0
    kill -TERM "$prober_pid"
    wait "$prober_pid" || status=$?
    prober_pid=
    cat "$prober_log"
    return $status
}

# has_event NAME REASON: of an object in this namespace, or of one without a namespace.
has_event() { kubectl get events --field-selector "involvedObject.name=$1,reason=$2" -o name | finds .; }

# etcdctl on the DataStore "default" of $CLUSTER, as its root.
datastore() {
    local address node pki=${BASALT_STATE:-/var/lib/basalt}/$CLUSTER/pki/etcd
    address=$(kubectl get pod etcd-0 -n basalt-system -o 'jsonpath={.status.podIP}') || return 1
    node=$("$BASALT" nodes --name "$CLUSTER" list) || return 1
    # Its certificate has no addresses of Pods.
    nsenter --net="/proc/$(awk 'NR == 1 {print $4}' <<< "$node")/ns/net" \
        "$(find "$CACHE"/bin/etcd-v*/etcdctl | sort -V | tail -n 1)" --endpoints "https://$address:2379" \
        --insecure-skip-tls-verify --cert "$pki/root.crt" --key "$pki/root.key" "$@"
}

# stored_as CONTROL_PLANE: its schema and user in the DataStore.
stored_as() { kubectl get tcp "$1" -o 'jsonpath={.status.storage.setup.schema} {.status.storage.setup.user}'; }

# in_datastore SCHEMA USER: up to five keys of a control plane, its user and its role there.
in_datastore() {
    local keys users roles
    keys=$(datastore get "/$1/" --prefix --keys-only --limit 5) && users=$(datastore user list) &&
        roles=$(datastore role list) || return 1
    { sed '/^$/d; s/^/key /' <<< "$keys"; sed 's/^/user /' <<< "$users" | grep -Fx "user $2"
      sed 's/^/role /' <<< "$roles" | grep -Fx "role $1"; } || :
}
