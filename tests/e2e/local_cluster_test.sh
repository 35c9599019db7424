#!/usr/bin/env bash
# A local cluster from nothing to nothing: `basalt up` makes one that works, mends it after a kill at any point
# and after a node's plug was pulled, a second one lives beside it, and `basalt down` leaves no trace.
#
#   tests/e2e/local_cluster_test.sh [PROGRAM]      default: the newest of build/*/bin/basalt
#   NODES=1 tests/e2e/local_cluster_test.sh        with one node instead of three, thus with one etcd member
#
# Clients run in a network namespace of their own, attached to the cluster's bridge and to nothing else.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
basalt=${1:-$(ls -t "$here"/../../build/{release,dev}/bin/basalt 2>/dev/null | head -1)}
nodes=${NODES:-3}
name=e2e-$$
other=e2e-$$-b
client=client-$$
state=${BASALT_STATE:-/var/lib/basalt}
work=$(mktemp -d)
passed=0

say() { echo "== $*"; }
fail() { echo "FAILED: $*" >&2; exit 1; }
ok() { passed=$((passed + 1)); echo "ok $passed: $*"; }
kubectl() { "$kubectl_program" --kubeconfig "$state/$name/kubeconfig" "$@"; }
node() { "$basalt" nodes --name "$name" "$@"; }

# wait_for SECONDS WHAT COMMAND...: until it succeeds.
wait_for() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        if ((SECONDS >= deadline)); then "$@" || true; fail "$what: not within the limit"; fi
        read -rt 0.3 <> <(:) || :
    done
}

# Everything that a cluster could leave behind, one line each.
traces() {
    ip -o link | awk '{sub(/@.*/, "", $2); print "link", $2}'
    ip netns | sed 's/^/netns /'
    ip -4 route show table all | grep -E '10\.(2[0-3][0-9]|32|33)\.' | sed 's/^/route /' || true
    awk '{print "mount", $2}' /proc/mounts
    # No deeper than a cluster's own directory: Pods come and go in clusters of others.
    find /sys/fs/cgroup -type d -path '*/basalt*' | sed -E 's|(/basalt/[^/]+)/.*|\1|; s/^/cgroup /' | uniq
    nft list tables | sed 's/^/nft /'
    losetup -a | sed 's/^/loop /'
    for process in /proc/[0-9]*; do
        { tr '\0' ' ' <"$process/cmdline" | grep -E "node-process|docker-registry|containerd|kubelet" | cut -c1-80 | sed 's/^/process /'; } 2>/dev/null || true
    done
    find "$state" -mindepth 1 -maxdepth 1 2>/dev/null | sed 's/^/state /' || true
}

clean_up() {
    ip netns del "$client" 2>/dev/null || true
    "$basalt" down --name "$name" >/dev/null 2>&1 || true
    "$basalt" down --name "$other" >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap clean_up EXIT

# refused CODE TEXT ARGUMENT...: exits with CODE (105 and its like: "usage") and says TEXT.
refused() {
    local wanted=$1 text=$2 code=0
    shift 2
    "$basalt" "$@" >"$work/err" 2>&1 || code=$?
    if [[ $wanted == usage ]]; then
        ((code > 100)) || fail "basalt $*: exit code $code: $(cat "$work/err")"
    else
        ((code == wanted)) || fail "basalt $*: exit code $code: $(cat "$work/err")"
    fi
    grep -qF -- "$text" "$work/err" || fail "basalt $*: no \"$text\" in: $(cat "$work/err")"
}
# A user who is nobody, with a program that lies where nobody may read it.
as_nobody() {
    if [[ ! -e $work/bin/basalt ]]; then
        chmod 755 "$work"
        mkdir "$work/bin"
        cp "$basalt" "$work/bin/"
        mkdir -p "$work/share"
        cp -r "$here/../../deploy" "$here/../../distribution" "$work/share/"
        chmod -R a+rX "$work/bin" "$work/share"
    fi
    BASALT_SHARE_DIR=$work/share setpriv --reuid=65534 --regid=65534 --clear-groups "$work/bin/basalt" "$@"
}

test_refusals() {
    say "bad input"
    refused usage 'cluster name "Bad/Name" must be' up --name 'Bad/Name'
    refused usage 'not in range 1 to 32' up --name "$name" --nodes 99
    refused usage 'basalt has no command "bogus", it has: up down' bogus
    refused usage 'nodes has no command "bogus", it has: list start' nodes bogus
    refused usage 'A subcommand is required' nodes
    refused usage '--timeout' sleep tenant-a --timeout abc
    refused 1 "there is no recipe for Kubernetes v1.2.3; use one of: v1." up --name "$name" --kubernetes-version v1.2.3
    refused 1 "there is no cluster $name" kubeconfig --name "$name"
    refused 1 "there is no cluster $name" nodes list --name "$name"
    refused 1 "no kubeconfig at /nowhere; name one with --kubeconfig" describe tcp a --kubeconfig /nowhere
    if as_nobody up --name "$name" 2>"$work/err"; then fail "up as nobody"; fi
    grep -q "needs root" "$work/err" || fail "up as nobody: $(cat "$work/err")"
    "$basalt" down --name "$name" || fail "down without a cluster must be fine"
    ok "bad input is refused with a reason"
}

test_makefile() {
    say "make"
    local root=$here/../.. text
    # As from a shell that knows nothing of what this test was called with.
    make() { env -u NAME -u NODES -u IMAGES -u IMAGES_FROM -u MAKEFLAGS -u MAKELEVEL make "$@"; }
    text=$(make -n -C "$root" up)
    [[ $text == *"basalt up --name basalt  --images build"* ]] || fail "make up: $text"
    text=$(make -n -C "$root" up NAME=a NODES=3 IMAGES=pull IMAGES_FROM=host:1)
    [[ $text == *"basalt up --name a --nodes 3 --images pull --images-from host:1"* ]] || fail "make up: $text"
    text=$(make -n -C "$root" down NAME=a BUILD=build/none)
    [[ $text == *"make --no-print-directory build"*"build/none/bin/basalt down --name a"* ]] || fail "make down: $text"
    ok "make passes on what it is given"
}

# What each shell offers after a line, one word a line.
bash_offers() {
    bash -c 'source "$1/basalt.bash"; read -ra COMP_WORDS <<<"$2"; COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _basalt_complete; printf "%s\n" "${COMPREPLY[@]}"' - "$work" "$1"
}
zsh_offers() {
    # A terminal of its own, which types the line and a tab; what compadd takes is what is offered.
    rm -f "$work/zsh.offers"
    cat >"$work/zsh.setup" <<'ZSH'
autoload -U compinit && compinit -u -D
compadd() {
    local -a found
    builtin compadd -O found "$@"
    if [[ -n $found ]]; then print -rl -- $found >OFFERS.new; mv OFFERS.new OFFERS; fi
    builtin compadd "$@"
}
ZSH
    sed -i "s|OFFERS|$work/zsh.offers|g" "$work/zsh.setup"
    zsh -f -c '
        zmodload zsh/zpty
        zpty -b shell zsh -f -i
        zpty -w shell "source $1/zsh.setup; source $1/basalt.zsh; echo rea\"\"dy"
        zpty -r -m shell text "*ready*"
        zpty -w -n shell "$2"$'"'\t'"'
        until [[ -e $1/zsh.offers ]] || ((SECONDS > 20)); do read -t 0.1 <> <(:); done
        zpty -d shell' - "$work" "$1"
    cat "$work/zsh.offers" 2>/dev/null || true
}
fish_offers() { HOME=$work fish -c "source $work/basalt.fish; complete -C '$1'" | cut -f 1; }

test_completion() {
    say "completion"
    local shell offered
    for shell in bash zsh fish; do "$basalt" completion $shell >"$work/basalt.$shell"; done
    for shell in bash zsh fish; do
        offers() { # LINE WANTED [UNWANTED]
            offered=$("${shell}_offers" "$1")
            grep -qx -- "$2" <<<"$offered" || fail "$shell does not offer $2 after '$1': $offered"
            if [[ -n ${3:-} ]] && grep -qx -- "$3" <<<"$offered"; then fail "$shell offers $3 after '$1'"; fi
        }
        offers "basalt d" describe up
        offers "basalt nodes s" stop status
        offers "basalt --share-dir /x nodes s" stop status
        offers "basalt kubeconfig g" get
        offers "basalt up --name down --n" --nodes --name-of-none
        offers "basalt completion --h" --help --nodes
    done
    ok "bash, zsh and fish complete commands and options"
}

# Killed at random moments of a whole start, then left alone. What a run did is there for the next one.
# KILLS="12.3 45.6" repeats a run.
test_up_survives_kills() {
    say "up, killed at random moments"
    local kills=${KILLS:-$((RANDOM % 20)).$((RANDOM % 10)) $((RANDOM % 40)).$((RANDOM % 10)) $((RANDOM % 40)).$((RANDOM % 10))} delay code
    for delay in $kills; do
        code=0
        timeout --foreground --signal=KILL "$delay" "$basalt" up --name "$name" --nodes "$nodes" 2>"$work/killed" || code=$?
        if ((code == 0)); then echo "   was up before $delay s"; break; fi
        ((code == 137)) || fail "up, with KILLS='$kills': $(cat "$work/killed")"
        echo "   killed after $delay s: $(tail -n 1 "$work/killed")"
    done
    local began=$SECONDS
    "$basalt" up --name "$name" --nodes "$nodes" || fail "up after KILLS='$kills'"
    ok "up after kills, in $((SECONDS - began)) s"
    kubectl_program=$(dirname "$(readlink -f /usr/local/bin/kubectl)")/kubectl
}

test_ready() {
    say "ready"
    [[ $(kubectl get nodes --no-headers | grep -cw Ready) == "$nodes" ]] || fail "not all nodes are Ready"
    [[ $(kubectl get configmap kube-proxy -n kube-system -o yaml) == *"mode: nftables"* ]] || fail "kube-proxy's mode"
    local members=1
    if ((nodes >= 3)); then members=3; fi
    [[ $(kubectl get statefulset etcd -n basalt-system -o 'jsonpath={.status.readyReplicas}') == "$members" ]] ||
        fail "the datastore has not $members members"
    if kubectl get crd datastores.kamaji.clastix.io >/dev/null 2>&1; then
        [[ $(kubectl get datastore default -o 'jsonpath={.spec.driver}') == etcd ]] || fail "no DataStore default"
    fi
    "$basalt" kubeconfig --name "$name" >"$work/kubeconfig"
    "$kubectl_program" --kubeconfig "$work/kubeconfig" get --raw /readyz >/dev/null || fail "the printed kubeconfig"
    [[ $("$basalt" status --name "$name") == *'API server  ready'* ]] || fail "status"
    if as_nobody status --name "$name" 2>"$work/err"; then fail "status as nobody"; fi
    grep -q "try sudo" "$work/err" || fail "status as nobody: $(cat "$work/err")"
    if as_nobody status 2>"$work/err"; then fail "status of all as nobody"; fi
    ok "nodes are Ready, the datastore has its members, the kubeconfig works from the host"
}

# Without the root certificate nothing can be read; with it, all.
test_datastore_needs_a_certificate() {
    say "datastore"
    local address pki=$state/$name/pki/etcd pid
    address=$(kubectl get pod etcd-0 -n basalt-system -o 'jsonpath={.status.podIP}')
    pid=$(node list | awk 'NR == 1 {print $4}')
    etcdctl() {
        nsenter --net="/proc/$pid/ns/net" "$(ls -d "${BASALT_CACHE:-/var/cache/basalt}"/bin/etcd-v*/etcdctl | tail -1)" \
            --endpoints "https://$address:2379" --cacert "$pki/ca.crt" --insecure-skip-tls-verify "$@"
    }
    if etcdctl get a >/dev/null 2>&1; then fail "etcd answers without a client certificate"; fi
    if etcdctl --cert "$pki/server.crt" --key "$pki/server.key" get a >/dev/null 2>&1; then fail "etcd answers a user that it does not know"; fi
    etcdctl --cert "$pki/root.crt" --key "$pki/root.key" put a b >/dev/null || fail "root may not write"
    etcdctl --cert "$pki/root.crt" --key "$pki/root.key" del a >/dev/null
    ok "authentication is on"
}

workload() {
    local image
    image=$(kubectl get statefulset etcd -n basalt-system -o 'jsonpath={.spec.template.spec.containers[0].image}')
    cat <<YAML
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: web}
spec:
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 1Gi}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  strategy: {type: Recreate}
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
        - name: web
          image: $image
          command: [etcd, --data-dir=/data/etcd, --listen-client-urls=http://0.0.0.0:2379, --advertise-client-urls=http://127.0.0.1:2379]
          readinessProbe: {httpGet: {path: /health, port: 2379}, periodSeconds: 1}
          volumeMounts: [{name: data, mountPath: /data}]
      volumes: [{name: data, persistentVolumeClaim: {claimName: web}}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: LoadBalancer
  selector: {app: web}
  ports: [{port: 80, targetPort: 2379}]
YAML
}

add_client() {
    local bridge network
    bridge=$("$basalt" status --name "$name" | awk '/^network/ {print $4}')
    network=$("$basalt" status --name "$name" | awk '/^network/ {print $2}')
    ip netns add "$client"
    ip link add "c$$" type veth peer name eth0 netns "$client"
    ip link set "c$$" master "$bridge" up
    ip -n "$client" address add "${network%.0.0/16}.4.10/16" dev eth0
    ip -n "$client" link set eth0 up
}
from_client() { ip netns exec "$client" curl --silent --show-error --fail --noproxy '*' --max-time 5 "$@"; }
b64() { printf %s "$1" | base64; }

reach_service_from_nodes() {
    local number service
    service=$(kubectl get service web -o 'jsonpath={.spec.clusterIP}')
    for number in $(seq "$nodes"); do
        wait_for 60 "ClusterIP from node $number" node exec "$number" -- curl -sf --max-time 5 "http://$service/version"
    done
}

test_workload() {
    say "Deployment, Service, LoadBalancer, volume, DNS"
    workload | kubectl apply -f - >/dev/null
    kubectl rollout status deployment/web --timeout=180s >/dev/null || fail "the Deployment"
    wait_for 60 "LoadBalancer address" eval '[[ -n $(kubectl get service web -o "jsonpath={.status.loadBalancer.ingress[0].ip}") ]]'
    address=$(kubectl get service web -o 'jsonpath={.status.loadBalancer.ingress[0].ip}')
    add_client
    wait_for 60 "LoadBalancer" from_client "http://$address/version"
    from_client "http://$address/v3/kv/put" -d "{\"key\":\"$(b64 stone)\",\"value\":\"$(b64 basalt)\"}" >/dev/null
    kubectl delete pod -l app=web --wait >/dev/null
    kubectl rollout status deployment/web --timeout=180s >/dev/null
    wait_for 60 "LoadBalancer after a new Pod" from_client "http://$address/version"
    [[ $(from_client "http://$address/v3/kv/range" -d "{\"key\":\"$(b64 stone)\"}") == *"$(b64 basalt)"* ]] || fail "the volume lost data"
    reach_service_from_nodes
    local pod_node
    for pod_node in $(seq "$nodes"); do
        node exec "$pod_node" -- curl -sf --max-time 5 "http://$(kubectl get pod -l app=web -o 'jsonpath={.items[0].status.podIP}'):2379/version" >/dev/null ||
            fail "Pod address from node $pod_node"
    done
    node exec 1 -- python3 - <<'PYTHON' || fail "DNS"
import socket, struct
name = "web.default.svc.cluster.local"
query = struct.pack(">6H", 7, 0x100, 1, 0, 0, 0) + b"".join(bytes([len(p)]) + p.encode() for p in name.split(".")) + b"\0\0\1\0\1"
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.settimeout(5)
    s.sendto(query, ("10.33.0.10", 53))
    answer = s.recv(512)
assert answer[:2] == b"\0\7" and struct.unpack(">H", answer[6:8])[0] == 1, answer
PYTHON
    ok "a workload with volume, LoadBalancer address and DNS name works"
}

test_host_is_safe() {
    say "host"
    [[ $(cat /proc/sys/net/ipv4/ip_forward) == "$forward_before" ]] || fail "the host's ip_forward changed"
    if ip route get 10.33.0.1 >/dev/null 2>&1; then fail "a Service address leaves the host"; fi
    if ip route get 10.32.1.2 >/dev/null 2>&1; then fail "a Pod address leaves the host"; fi
    if node exec 1 -- ip route get 192.0.2.99 >/dev/null 2>&1; then fail "a node has a route to the outside"; fi
    [[ $(cat /proc/sys/kernel/panic /proc/sys/vm/overcommit_memory) == "$sysctls_before" ]] || fail "a node changed the host's sysctls"
    ok "the host got connected routes only"
}

test_second_up_changes_nothing() {
    say "second up"
    local before after began=$SECONDS
    before=$(kubectl get all,secrets,pv,crd -A -o 'jsonpath={range .items[?(@.kind!="Pod")]}{.kind}/{.metadata.name} {.metadata.generation}{"\n"}{end}')
    "$basalt" up --name "$name" || fail "second up"
    after=$(kubectl get all,secrets,pv,crd -A -o 'jsonpath={range .items[?(@.kind!="Pod")]}{.kind}/{.metadata.name} {.metadata.generation}{"\n"}{end}')
    [[ $before == "$after" ]] || fail "a second up changed objects: $(diff <(echo "$before") <(echo "$after"))"
    ok "a second up changes nothing, in $((SECONDS - began)) s"
}

test_node_restarts() {
    say "stop, kill and start of a node"
    node stop 1
    [[ $(node list) == *stopped* ]] || fail "stop"
    if node exec 1 -- true 2>/dev/null; then fail "exec on a stopped node"; fi
    node start 1
    wait_for 120 "API server after stop" kubectl get --raw /readyz
    node kill 1
    node start 1
    wait_for 120 "API server after kill" kubectl get --raw /readyz
    wait_for 180 "LoadBalancer after kill" from_client "http://$address/version"
    [[ $(from_client "http://$address/v3/kv/range" -d "{\"key\":\"$(b64 stone)\"}") == *"$(b64 basalt)"* ]] || fail "data after kill"
    "$basalt" up --name "$name" || fail "up after kill"
    ok "a node comes back after stop and after kill, with its data"
}

test_removed_nodes() {
    say "nodes that were removed"
    local began=$SECONDS
    kubectl delete node "$name-1" >/dev/null
    if ((nodes > 1)); then kubectl delete node "$name-2" >/dev/null; fi
    "$basalt" up --name "$name" || fail "up after the removal of nodes"
    [[ $(kubectl get nodes --no-headers | grep -cw Ready) == "$nodes" ]] || fail "a node did not join again"
    kubectl get node "$name-1" -o 'jsonpath={.metadata.labels}' | grep -q node-role.kubernetes.io/control-plane ||
        fail "the first node is no control plane any more"
    wait_for 120 "LoadBalancer after the removal of nodes" from_client "http://$address/version"
    reach_service_from_nodes
    ok "nodes that were removed from the cluster join again, in $((SECONDS - began)) s"
}

restarted_at() {
    kubectl get deployment basalt-controller -n basalt-system \
        -o 'jsonpath={.spec.template.metadata.annotations.kubectl\.kubernetes\.io/restartedAt}'
}
# A run that was killed before it noted which image of ours the cluster has: the next one may have built another.
test_unknown_image_is_rolled_out() {
    say "an image of unknown age"
    local before
    before=$(restarted_at)
    rm "$state/$name/own-image"
    "$basalt" up --name "$name" || fail "up without a note about the image"
    [[ $(restarted_at) != "$before" ]] || fail "the controller was not restarted"
    [[ -s $state/$name/own-image ]] || fail "the image was not noted"
    before=$(restarted_at)
    "$basalt" up --name "$name" >/dev/null || fail "up"
    [[ $(restarted_at) == "$before" ]] || fail "the controller was restarted for nothing"
    ok "the controller is restarted when its image may be another"
}

# What deploy/controller says of the namespace on real clusters holds for what runs there.
test_controller_is_restricted() {
    local warnings
    warnings=$(kubectl apply --dry-run=server --server-side --force-conflicts --field-manager=test -f "$here/../../deploy/controller/00-namespace.yaml" 2>&1)
    [[ $warnings == *basalt-node* ]] || fail "no warning about basalt-node, which needs more: $warnings"
    [[ $warnings != *basalt-controller* ]] || fail "the controller needs more than its namespace allows: $warnings"
    ok "the controller runs in a namespace that is restricted"
}

# up_with_a_broken_controller COMMAND...: until the cluster has it, which never gets ready.
up_with_a_broken_controller() {
    local program pid
    mkdir "$work/broken"
    for program in basalt basalt-start basalt-tunnel basalt-node; do cp "$(dirname "$basalt")/$program" "$work/broken/"; done
    cp /bin/false "$work/broken/basalt-controller"
    BASALT_CACHE=$work/cache "$work/broken/basalt" up --name "$other" "$@" 2>"$work/err" &
    pid=$!
    wait_for 300 "a cluster with a broken controller" eval "[[ -s $state/$other/own-image ]] || ! kill -0 $pid"
    kill -9 $pid || fail "up with a broken controller ended: $(cat "$work/err")"
    wait $pid 2>/dev/null || true
}

test_two_clusters() {
    say "a second cluster beside it"
    # Without programs and images of its own: it takes those of the first one's registry.
    local registry
    registry=$("$basalt" status --name "$name" | awk '/^registry/ {print $2}')
    if BASALT_CACHE=$work/cache "$basalt" up --name "$other" --images pull --images-from http://127.0.0.1:1 2>"$work/err"; then
        fail "pulled from nowhere"
    fi
    grep -q -- "--images-from HOST:PORT" "$work/err" || fail "the error has no remedy: $(cat "$work/err")"
    up_with_a_broken_controller --images pull --images-from "http://$registry"
    BASALT_CACHE=$work/cache "$basalt" up --name "$other" || fail "second cluster, whose controller was broken"
    [[ $("$kubectl_program" --kubeconfig "$state/$other/kubeconfig" get nodes --no-headers | grep -cw Ready) == 1 ]] || fail "second cluster's node"
    kubectl get --raw /readyz >/dev/null || fail "the first cluster suffered"
    if "$kubectl_program" --kubeconfig "$state/$other/kubeconfig" get deployment web >/dev/null 2>&1; then fail "clusters mix"; fi
    "$basalt" down --name "$other"
    from_client "http://$address/version" >/dev/null || fail "down of one cluster harmed the other"
    ok "two clusters live side by side, the second from images of the first and with a controller that was broken"
}

test_down() {
    say "down"
    ip netns del "$client"
    local began=$SECONDS
    "$basalt" down --name "$name" || fail "down"
    traces | sort >"$work/after"
    diff "$work/before" "$work/after" || fail "down left something behind"
    ok "down leaves nothing, in $((SECONDS - began)) s"
}

# The first one on a machine makes a mount, which stays.
ip netns add "$client"
ip netns del "$client"
traces | sort >"$work/before"
forward_before=$(cat /proc/sys/net/ipv4/ip_forward)
sysctls_before=$(cat /proc/sys/kernel/panic /proc/sys/vm/overcommit_memory)
test_refusals
test_makefile
test_completion
test_up_survives_kills
test_ready
test_datastore_needs_a_certificate
test_workload
test_host_is_safe
test_second_up_changes_nothing
test_node_restarts
test_removed_nodes
test_unknown_image_is_rolled_out
test_controller_is_restricted
test_two_clusters
test_down
echo "$passed passed, 0 failed"
