#!/usr/bin/env bash
# An upgrade by a minor version, certificates that are rotated, a change of replicas, and restarts of the tunnel's ends,
# while users ask all the time: 30 new connections a second, writes through a validating webhook, requests to a node.
# Nobody notices the first three, all recover from the last. The webhook and the node's port are where nothing but the tunnel's agent reaches them: in a
# network namespace behind address translation. join_test.sh does the first with a real worker and exec, slower.
#
#   tests/e2e/upgrade_test.sh [PROGRAM]    CLUSTER=name: as in the other tests
set -Eeuo pipefail
trap 'echo "FAILED: line $LINENO: $BASH_COMMAND" >&2' ERR
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$ROOT/distribution/versions.env"

basalt=$(find_basalt "${1:-}")
cluster=${CLUSTER:-basalt}
control_plane=e2e-upgrade
site=upgrade-$$
inside=10.66.0.1  # Of the site's router, on the side of its machines.
work=$(mktemp -d)
agent_pid=
prober_pid=
declare -a server_pids=()
# Not a function: what runs beside us is to be the program itself, so that its id is the one to kill.
in_site=(nsenter --net="/run/netns/basalt-vm-$site")

tenant() { kubectl --kubeconfig "$work/tenant.conf" "$@"; }
node() { "$basalt" nodes --name "$cluster" exec 1 -- "$@"; }
of() { kubectl get "$1" "$control_plane" -o "jsonpath=$2"; }
pods() { kubectl get pods -l "kamaji.clastix.io/name=$control_plane" -o name; }
pods_are() { (($(pods | wc -l) == $1)); }
replicas_are() { [[ $(of deployment '{.status.readyReplicas} {.status.replicas}') == "$1 $1" ]]; }

clean_up() {
    local status=$? pid
    trap - EXIT ERR
    if ((status != 0)); then
        kubectl get tcp,pods -o wide || :
        for pod in $(pods); do kubectl logs "$pod" -c konnectivity-server --tail=30 || :; done
        tail -n 30 "$work"/agent.log || :
    fi >&2
    for pid in $agent_pid $prober_pid "${server_pids[@]}"; do kill "$pid" 2>/dev/null || :; done
    "$E2E/worker_vm" remove "$site" || :
    kubectl delete tcp "$control_plane" --ignore-not-found --timeout=120s >/dev/null || :
    rm -rf "$work"
    exit $status
}

prepare() {
    "$E2E/images.sh" build
    "$basalt" up --name "$cluster" >"$work/up.log" 2>&1 || { tail -n 50 "$work/up.log"; fail "basalt up"; }
    "$basalt" kubeconfig --name "$cluster" >"$work/management.conf"
    export KUBECONFIG=$work/management.conf
    trap clean_up EXIT
    kubectl apply -f - >/dev/null <<YAML
apiVersion: kamaji.clastix.io/v1alpha1
kind: TenantControlPlane
metadata: {name: $control_plane, namespace: default}
spec:
  controlPlane:
    deployment: {replicas: 1}
    service: {serviceType: LoadBalancer}
  kubernetes: {version: $KUBERNETES_1_35}
  addons: {konnectivity: {}}
YAML
    kubectl wait --for=condition=Ready "tcp/$control_plane" --timeout=180s >/dev/null
    kubectl get secret "$control_plane-admin-kubeconfig" -o 'jsonpath={.data.admin\.conf}' | base64 -d >"$work/tenant.conf"
    endpoint=$(of tcp '{.status.controlPlaneEndpoint}')
    ok "a control plane of $KUBERNETES_1_35 is Ready"
}

start_agent() {
    tenant create token -n kube-system konnectivity-agent --audience system:konnectivity-server >"$work/token"
    "${in_site[@]}" "$(dirname "$basalt")/basalt-tunnel" agent --ca-cert "$work/ca.crt" --service-account-token-path "$work/token" \
        --proxy-server-host "${endpoint%:*}" --proxy-server-port 8132 >>"$work/agent.log" 2>&1 &
    agent_pid=$!
}

# The tenant's side: an agent, a webhook, and what answers on a node's port.
start_tenant() {
    local status network bridge agnhost
    status=$("$basalt" status --name "$cluster")
    network=$(awk '/^network/ {print $2}' <<<"$status")
    bridge=$(awk '/^network/ {print $4}' <<<"$status")
    agnhost=$CACHE/bin/agnhost-$(<"$E2E/agnhost/VERSION")/agnhost
    "$E2E/worker_vm" site "$site" "$bridge" "${network%.0.0/16}.6.$((1 + $$ % 250))/16"
    tenant config view --raw -o 'jsonpath={.clusters[0].cluster.certificate-authority-data}' | base64 -d >"$work/ca.crt"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=webhook \
        -addext "subjectAltName=IP:$inside" -keyout "$work/tls.key" -out "$work/tls.crt" 2>/dev/null
    "${in_site[@]}" "$agnhost" webhook --tls-cert-file="$work/tls.crt" --tls-private-key-file="$work/tls.key" --port=8444 >"$work/webhook.log" 2>&1 &
    server_pids+=($!)
    "${in_site[@]}" "$agnhost" netexec --http-port=10250 --udp-port=-1 --tls-cert-file="$work/tls.crt" --tls-private-key-file="$work/tls.key" >"$work/node.log" 2>&1 &
    server_pids+=($!)
    start_agent
    tenant apply -f - >/dev/null <<YAML
apiVersion: v1
kind: Node
metadata: {name: edge}
YAML
    tenant patch node edge --subresource status --type merge -p \
        "{\"status\":{\"addresses\":[{\"type\":\"InternalIP\",\"address\":\"$inside\"}],\"daemonEndpoints\":{\"kubeletEndpoint\":{\"Port\":10250}}}}" >/dev/null
    wait_until 60 "the node's port through the tunnel" node_answers
    sed -e "s|service: .*|url: https://$inside:8444/configmaps|; s|\${CA_BUNDLE}|$(base64 -w0 "$work/tls.crt")|" \
        "$E2E/manifests/webhook-configuration.yaml" | tenant apply -f - >/dev/null
    wait_until 60 "a refusal by the webhook" webhook_refuses
    # From a management node, which has no default route: nothing leaves this machine.
    if node curl -sk --noproxy '*' --max-time 2 "https://$inside:8444/readyz" >/dev/null 2>&1; then fail "the webhook is reached without the tunnel"; fi
    ok "a node and a webhook are reached through the tunnel, and only so"
}

node_answers() { tenant get --raw /api/v1/nodes/edge/proxy/hostname; }
webhook_refuses() {
    { tenant create configmap refused --from-literal=webhook-e2e-test=webhook-disallow --dry-run=server || :; } 2>&1 |
        grep 'denied the request'
}

test_upgrade() {
    local began old
    old=$(pods)
    start_prober "$work/tenant.conf" "$work/prober.log" --node edge --webhook
    began=$EPOCHREALTIME
    kubectl patch tcp "$control_plane" --type merge -p "{\"spec\":{\"kubernetes\":{\"version\":\"$KUBERNETES_1_36\"}}}" >/dev/null
    kubectl wait tcp "$control_plane" --timeout=200s --for="jsonpath={.status.kubernetesResources.version.version}=$KUBERNETES_1_36" >/dev/null
    echo "   $KUBERNETES_1_35 -> $KUBERNETES_1_36: $(seconds_since "$began") from the patch until the status says so"
    kubectl wait "$old" --for=delete --timeout=120s >/dev/null
    echo "   the old Pod is gone $(seconds_since "$began") after the patch"
    end_prober || fail "the upgrade was noticed"
    [[ $(tenant get --raw /version) == *"\"$KUBERNETES_1_36\""* ]] || fail "another version serves"
    ok "an upgrade by a minor version that nobody notices"
}

# What is done before certificates end, asked for: all that the API server shows to others and the tunnel's are new.
# Replicas change while the old Pod is still about to go: that takes more than a minute, which one prober waits for.
test_rotation_and_replicas() {
    local began old new secret i
    local -A before=()
    local -a secrets=(api-server-certificate api-server-kubelet-client-certificate datastore-certificate
        konnectivity-certificate konnectivity-kubeconfig)
    old=$(pods)
    for secret in "${secrets[@]}"; do before[$secret]=$(content_of "$secret"); done
    start_prober "$work/tenant.conf" "$work/prober.log" --node edge --webhook
    began=$EPOCHREALTIME
    kubectl annotate secret "${secrets[@]/#/$control_plane-}" certs.kamaji.clastix.io/rotate= >/dev/null
    for secret in "${secrets[@]}"; do wait_until 30 "a new $secret" is_rotated "$secret" "${before[$secret]}"; done
    wait_until 60 "a Pod with the new certificates" replaced "$old"
    kubectl wait --for=condition=Ready "tcp/$control_plane" --timeout=60s >/dev/null
    new=$(running_pods)
    echo "   a Pod with the new certificates is alone $(seconds_since "$began") after the annotation"

    kubectl scale "tcp/$control_plane" --replicas=2 >/dev/null
    wait_until 120 "two replicas" replicas_are 2
    running_pods | finds -x "$new" || fail "scaling replaced a Pod"
    for i in $(seq 12); do node_answers >/dev/null || fail "two replicas, connection $i to the node"; done
    kubectl scale "tcp/$control_plane" --replicas=1 >/dev/null
    kubectl wait "$old" --for=delete --timeout=120s >/dev/null
    wait_until 120 "one Pod" pods_are 1
    end_prober || fail "the rotation or the change of replicas was noticed"
    [[ $(served_certificate) == "$(stored_certificate)" ]] || fail "it serves with another certificate"
    ok "certificates are rotated, one replica, two, one: nobody notices"
}

# Without those that are about to go.
running_pods() {
    kubectl get pods -l "kamaji.clastix.io/name=$control_plane" -o json |
        jq -r '.items[].metadata | select(.deletionTimestamp == null) | "pod/\(.name)"'
}
replaced() { replicas_are 1 && [[ $(running_pods) != "$1" ]]; }
content_of() { kubectl get secret "$control_plane-$1" -o 'jsonpath={.data}' | md5sum; }
# Others, and the annotation says when.
is_rotated() {
    [[ $(content_of "$1") != "$2" ]] &&
        [[ $(kubectl get secret "$control_plane-$1" -o 'jsonpath={.metadata.annotations.certs\.kamaji\.clastix\.io/rotate}') == 20*Z ]]
}
served_certificate() { openssl s_client -connect "$endpoint" </dev/null 2>/dev/null | openssl x509 -noout -fingerprint -sha256; }
stored_certificate() {
    kubectl get secret "$control_plane-api-server-certificate" -o 'jsonpath={.data.apiserver\.crt}' | base64 -d |
        openssl x509 -noout -fingerprint -sha256
}

test_restarts() {
    local id
    id=$(kubectl get "$(pods)" -o 'jsonpath={.status.containerStatuses[?(@.name=="konnectivity-server")].containerID}')
    node ctr --namespace k8s.io tasks kill --signal SIGKILL "${id#containerd://}"
    wait_until 60 "the node after a restart of the server" node_answers
    wait_until 30 "the webhook after a restart of the server" webhook_refuses
    kill -KILL "$agent_pid"
    wait "$agent_pid" 2>/dev/null || :
    start_agent
    wait_until 60 "the node after a restart of the agent" node_answers
    wait_until 30 "the webhook after a restart of the agent" webhook_refuses
    ok "either end of the tunnel restarts"
}

prepare
start_tenant
test_upgrade
test_rotation_and_replicas
test_restarts
echo "total time: $(elapsed)"
echo "$PASSED passed, 0 failed"
