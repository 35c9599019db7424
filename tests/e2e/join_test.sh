#!/usr/bin/env bash
# A stock Debian machine joins a hosted control plane with kubeadm, and a cluster like any other results: a
# Deployment, a Service and DNS work in it, and logs, exec, attach, port-forward, the metrics API and a validating
# webhook pass the tunnel. The machine sits behind address translation; the management side has no route to it.
# Then the control plane is upgraded by a minor version, and users who ask all the time, exec included, notice nothing.
#
#   tests/e2e/join_test.sh [PROGRAM]     default: the newest of build/*/bin/basalt
#   CLUSTER=name                         management cluster; "basalt" by default, brought up and removed when missing
#   TENANT_KUBECONFIG=file               a ready control plane instead of a new one: only the worker's side is tested
#   KEEP=1                               leaves everything in place when it ends
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

basalt=$(find_basalt "${1:-}")
cluster=${CLUSTER:-basalt}
namespace=join-$$
site=join-$$
control_plane=tenant-a
machine=worker-a
lines=20000
work=$(mktemp -d)
agnhost=$("$E2E/images.sh" agnhost)
made_cluster=false
made_control_plane=false
forward_pid=
prober_pid=
source "$ROOT/distribution/versions.env"
# Of the older minor: what an upgrade starts from.
version=$KUBERNETES_1_35
new_version=$KUBERNETES_1_36

kubectl() { "$kubectl_program" --kubeconfig "$work/management.conf" "$@"; }
tenant() { "$kubectl_program" --kubeconfig "$work/tenant.conf" "$@"; }
worker() { "$E2E/worker_vm" "$1" "$site" "${@:2}"; }
node() { "$basalt" nodes --name "$cluster" exec 1 -- "$@"; }

traces() {
    ip -o link | awk '{sub(/@.*/, "", $2); print "link", $2}' | grep -E ' (bv|tap)' || true
    ip netns | grep "basalt-vm-$site" || true
    find "/run/basalt-vm/$site" 2>/dev/null || true
    pgrep -fa "^qemu-system.*/run/basalt-vm/$site/" || true
}

explain() {
    if [[ -s $work/tenant.conf ]]; then
        tenant get nodes,pods -A -o wide || true
        tenant get events -A --sort-by=.lastTimestamp | tail -n 15 || true
    fi
    if $made_control_plane; then
        kubectl get tcp,pods -n "$namespace" -o wide || true
        kubectl get events -n "$namespace" --sort-by=.lastTimestamp | tail -n 15 || true
    fi
    worker exec $machine sh -c 'journalctl -u kubelet -n 100 --no-pager | grep -v Housekeeping | tail -n 20' || worker console $machine | tail -n 30 || true
}

clean_up() {
    local status=$?
    trap - EXIT
    if ((status != 0)); then explain >&2 2>/dev/null; fi
    if [[ -n $forward_pid ]]; then kill "$forward_pid" 2>/dev/null || true; fi
    if [[ -n $prober_pid ]]; then kill "$prober_pid" 2>/dev/null || true; fi
    if [[ -n ${KEEP:-} ]]; then
        echo "kept: machine $machine of site $site, namespace $namespace, $work"
        exit $status
    fi
    "$E2E/worker_vm" remove "$site" || true
    if $made_control_plane; then kubectl delete namespace "$namespace" --timeout=60s >/dev/null 2>&1 || true; fi
    if $made_cluster; then "$basalt" down --name "$cluster" >/dev/null 2>&1 || true; fi
    rm -rf "$work"
    exit $status
}

# fill FILE: a manifest with its variables.
fill() {
    sed -e "s|\${AGNHOST}|$agnhost|; s|\${LINES}|$lines|; s|\${CA_BUNDLE}|${ca_bundle:-}|" \
        -e "s|\${METRICS_SERVER}|${metrics_server:-}|" "$E2E/manifests/$1"
}

prepare() {
    say "management cluster"
    "$E2E/images.sh" build
    metrics_server=$("$E2E/images.sh" metrics-server)
    if ! "$basalt" status --name "$cluster" 2>/dev/null | finds 'API server  ready'; then
        made_cluster=true
        "$basalt" up --name "$cluster"
    fi
    "$basalt" kubeconfig --name "$cluster" >"$work/management.conf"
    programs=$CACHE/bin/kubernetes-$version
    kubectl_program=$programs/kubectl
    local status
    status=$("$basalt" status --name "$cluster")
    network=$(awk '/^network/ {print $2}' <<<"$status")
    bridge=$(awk '/^network/ {print $4}' <<<"$status")
    registry=$(awk '/^registry/ {print $2}' <<<"$status")
    "$E2E/images.sh" push "$registry" >/dev/null
    ok "the management cluster runs and its registry has the test's images"
}

start_machine() {
    "$E2E/worker_vm" image "$version" >/dev/null
    "$E2E/worker_vm" site "$site" "$bridge" "${network%.0.0/16}.5.$((1 + $$ % 250))/16"
    worker start $machine "$version" >"$work/start.log" 2>&1 &
    machine_pid=$!
}

# From the manifest of the README to Ready.
test_control_plane() {
    if [[ -n ${TENANT_KUBECONFIG:-} ]]; then
        cp "$TENANT_KUBECONFIG" "$work/tenant.conf"
        return
    fi
    say "control plane"
    local began=$EPOCHREALTIME
    made_control_plane=true
    kubectl create namespace "$namespace" >/dev/null
    sed "s/namespace: default/namespace: $namespace/; s/ version: v.*/ version: $version/" "$ROOT/examples/control-plane.yaml" | kubectl apply -f - >/dev/null
    kubectl wait --for=condition=Ready -n "$namespace" tcp/$control_plane --timeout=300s >/dev/null || fail "the control plane is not Ready"
    kubectl get secret -n "$namespace" $control_plane-admin-kubeconfig -o 'jsonpath={.data.admin\.conf}' | base64 -d >"$work/tenant.conf"
    tenant get --raw /readyz >/dev/null || fail "the admin kubeconfig"
    ok "the control plane is Ready, $(seconds_since "$began") after apply"
}

# The mirrors and nothing else are told to the machine beforehand: it knows no other registry here.
test_join() {
    say "join"
    local command began
    wait "$machine_pid" || { cat "$work/start.log" >&2; fail "the machine did not start"; }
    cat "$work/start.log"
    printf '[host."http://%s"]\n  capabilities = ["pull", "resolve"]\n' "$registry" |
        worker put $machine /etc/containerd/certs.d/_default/hosts.toml
    if worker exec $machine sh -c 'command -v basalt basalt-tunnel basalt-node' >/dev/null; then fail "the machine is not stock"; fi
    command=$("$programs/kubeadm" token create --kubeconfig "$work/tenant.conf" --print-join-command) || fail "no token"
    began=$EPOCHREALTIME
    # shellcheck disable=SC2086
    worker exec $machine timeout 280 $command >"$work/join.log" 2>&1 || { cat "$work/join.log" >&2; fail "kubeadm join"; }
    echo "   kubeadm join took $(seconds_since "$began")"
    wait_until 180 "the Node appears" tenant get node $machine
    tenant wait --for=condition=Ready node/$machine --timeout=400s >/dev/null || fail "the node is not Ready"
    [[ $(tenant get node $machine -o 'jsonpath={.status.nodeInfo.kubeletVersion}') == "$version" ]] || fail "the kubelet's version"
    fill metrics-server.yaml | tenant apply -f - >/dev/null
    ok "a stock Debian machine is Ready, $(seconds_since "$began") after kubeadm join began"
}

# What the tunnel is for. Asked from a management node, which has no default route: nothing leaves this machine.
test_no_route_to_the_machine() {
    say "no way in"
    local address
    address=$(worker address $machine)
    [[ $(tenant get node $machine -o 'jsonpath={.status.addresses[?(@.type=="InternalIP")].address}') == "$address" ]] ||
        fail "the Node has another address than the machine"
    if node ip route get "$address" >/dev/null 2>&1; then fail "a management node has a route to the machine"; fi
    if node curl -sk --max-time 3 "https://$address:10250/healthz" >/dev/null 2>&1; then fail "a management node reaches the kubelet"; fi
    # Even with the router as the next hop: it lets nothing in.
    if ip netns exec "basalt-vm-$site" nft list chain ip router forward | finds 'iifname "outside" accept'; then fail "the router lets connections in"; fi
    ok "the management side cannot dial the machine"
}

# client PATH: an HTTP answer of the client Pod through the open port-forward.
client() { curl --silent --show-error --fail --noproxy '*' --max-time 30 "http://127.0.0.1:$forward_port$1"; }

forward() {
    : >"$work/forward.log"
    "$kubectl_program" --kubeconfig "$work/tenant.conf" port-forward pod/client :8080 --address 127.0.0.1 >"$work/forward.log" 2>&1 &
    forward_pid=$!
    wait_until 120 "port-forward listens" grep -q '^Forwarding from' "$work/forward.log"
    forward_port=$(sed -nE 's/^Forwarding from 127\.0\.0\.1:([0-9]+) .*/\1/p' "$work/forward.log")
}

test_add_ons() {
    say "add-ons"
    tenant rollout status -n kube-system daemonset/kube-proxy --timeout=400s >/dev/null || fail "kube-proxy"
    tenant rollout status -n kube-system deployment/coredns --timeout=400s >/dev/null || fail "CoreDNS"
    worker exec $machine nft list tables | finds kube-proxy || fail "kube-proxy wrote no nftables rules"
    ok "kube-proxy and CoreDNS run"
}

# Beforehand, so that Pods start as soon as there is a node.
deploy() {
    make_certificate
    wait_until 60 "the tenant's service account" tenant get serviceaccount default
    tenant create secret tls webhook-tls --cert="$work/tls.crt" --key="$work/tls.key" >/dev/null
    fill workload.yaml | tenant apply -f - >/dev/null
}

test_workload() {
    say "Deployment, Service, DNS"
    tenant rollout status deployment/web --timeout=400s >/dev/null || fail "the Deployment"
    tenant wait --for=condition=Ready pod/client --timeout=400s >/dev/null || fail "the Pods"
    ok "a Deployment runs"
}

answers_by_name() {
    local answer
    answer=$(client "/dial?request=hostname&protocol=http&host=$1&port=80&tries=1")
    [[ $answer == *'"responses":["web-'* ]] || { echo "$answer"; return 1; }
}

# Also proves the Service and DNS: the client Pod resolves a name and fetches from what it finds.
test_port_forward() {
    say "port-forward, Service, DNS"
    forward
    wait_until 120 "an answer through port-forward" client /healthz
    wait_until 120 "the Service by its cluster address" answers_by_name "$(tenant get service web -o 'jsonpath={.spec.clusterIP}')"
    wait_until 180 "the Service by its short name" answers_by_name web
    answers_by_name web.default.svc.cluster.local || fail "the Service by its full name"
    # agnhost answers 400 when it cannot resolve.
    if client "/dial?request=hostname&protocol=http&host=nobody.default.svc.cluster.local&port=80&tries=1" >/dev/null 2>&1; then
        fail "a name of nothing resolves"
    fi
    local i
    for i in $(seq 5); do [[ $(client "/echo?msg=stone-$i") == "stone-$i" ]] || fail "port-forward, connection $i"; done
    kill "$forward_pid"
    wait "$forward_pid" 2>/dev/null || true
    forward_pid=
    ok "port-forward works; a Pod reaches a Service by address and by name"
}

test_logs() {
    say "logs"
    local count
    count=$(tenant logs client -c lines | wc -l)
    ((count == lines)) || fail "logs: $count lines of $lines"
    [[ $(timeout 120 "$kubectl_program" --kubeconfig "$work/tenant.conf" logs -f client -c slow | head -n 3 | wc -l) == 3 ]] ||
        fail "logs that are followed"
    ok "logs: $lines lines in one piece, and followed ones"
}

test_exec() {
    say "exec, attach"
    [[ $(tenant exec client -c client -- /agnhost entrypoint-tester granite) == *granite* ]] || fail "exec"
    tenant exec client -c client -- /agnhost connect --timeout=10s web.default.svc.cluster.local:80 || fail "exec: the Service by name"
    if tenant exec client -c client -- /agnhost connect --timeout=2s 127.0.0.1:1 2>/dev/null; then fail "exec hides an exit status"; fi
    if tenant exec client -c client -- /nothing 2>/dev/null; then fail "exec of a missing program"; fi
    [[ $(timeout 120 "$kubectl_program" --kubeconfig "$work/tenant.conf" attach client -c slow 2>&1 | grep -m 1 logs_generator) ]] ||
        fail "attach"
    ok "exec with its exit status, attach"
}

test_aggregated_api() {
    say "metrics-server"
    tenant rollout status -n kube-system deployment/metrics-server --timeout=400s >/dev/null || fail "metrics-server"
    tenant wait --for=condition=Available apiservice/v1beta1.metrics.k8s.io --timeout=300s >/dev/null || fail "the APIService"
    wait_until 180 "kubectl top nodes" tenant top node $machine
    wait_until 180 "kubectl top pods" tenant top pod client
    tenant top nodes
    # What follows needs the processor.
    fill metrics-server.yaml | tenant delete -f - --wait=false >/dev/null
    ok "an aggregated API answers: kubectl top"
}

make_certificate() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=webhook.default.svc \
        -addext subjectAltName=DNS:webhook.default.svc -keyout "$work/tls.key" -out "$work/tls.crt" 2>/dev/null
    ca_bundle=$(base64 -w0 "$work/tls.crt")
}

create_configmap() { tenant create configmap "$1" --from-literal=stone=basalt; }

test_webhook() {
    say "validating webhook"
    fill webhook-configuration.yaml | tenant apply -f - >/dev/null
    # failurePolicy Fail: this passes once the API server has reached the webhook.
    wait_until 180 "a write through the webhook" create_configmap allowed
    if tenant create configmap refused --from-literal=webhook-e2e-test=webhook-disallow 2>"$work/refusal"; then
        fail "the webhook was not asked"
    fi
    grep -q 'admission webhook "refuse.e2e.test" denied the request' "$work/refusal" || fail "refused by another: $(cat "$work/refusal")"
    ok "a validating webhook in the cluster is asked and obeyed"
}

pods() { kubectl get pods -n "$namespace" -l "kamaji.clastix.io/name=$control_plane" -o name; }

# Users notice nothing, the end of the old Pod included.
test_upgrade() {
    say "upgrade, one replica, under load"
    local began old
    old=$(pods)
    start_prober "$work/tenant.conf" "$work/prober.log" --pod client --webhook
    began=$EPOCHREALTIME
    kubectl patch tcp -n "$namespace" "$control_plane" --type merge -p "{\"spec\":{\"kubernetes\":{\"version\":\"$new_version\"}}}" >/dev/null
    kubectl wait tcp -n "$namespace" "$control_plane" --timeout=200s \
        --for="jsonpath={.status.kubernetesResources.version.version}=$new_version" >/dev/null || fail "the upgrade"
    echo "   $version -> $new_version: $(seconds_since "$began") from the patch until the status says so"
    kubectl wait -n "$namespace" "$old" --for=delete --timeout=120s >/dev/null || fail "the old Pod stays"
    echo "   the old Pod is gone $(seconds_since "$began") after the patch"
    end_prober || fail "the upgrade was noticed"
    [[ $(tenant get --raw /version) == *"\"$new_version\""* ]] || fail "another version serves"
    ok "an upgrade by a minor version that nobody notices"
}

test_leaves_nothing() {
    say "end"
    "$E2E/worker_vm" remove "$site"
    if $made_control_plane; then
        kubectl delete tcp -n "$namespace" "$control_plane" --timeout=120s >/dev/null || fail "the control plane stays"
        kubectl delete namespace "$namespace" --timeout=120s >/dev/null || fail "the namespace stays"
        made_control_plane=false
    fi
    traces | sort >"$work/after"
    diff "$work/before" "$work/after" || fail "the machine left something behind"
    ok "nothing is left of machine and control plane"
}

main() {
    trap clean_up EXIT
    traces | sort >"$work/before"
    prepare
    start_machine
    test_control_plane
    deploy
    test_join
    test_no_route_to_the_machine
    test_add_ons
    test_workload
    test_port_forward
    test_logs
    test_exec
    test_webhook
    test_aggregated_api
    if $made_control_plane; then test_upgrade; fi
    if [[ -z ${KEEP:-} ]]; then test_leaves_nothing; fi
    echo "total time: $(elapsed)"
    echo "$PASSED passed, 0 failed"
}

main
