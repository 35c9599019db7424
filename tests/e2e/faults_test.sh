#!/usr/bin/env bash
# What goes wrong is said in a condition and an event, is over when it is mended, and harms nobody else. Killing the
# controller, etcd or a node at any moment loses nothing.
set -Eeuo pipefail
trap 'echo "FAILED: line $LINENO: $BASH_COMMAND" >&2' ERR
source "$(dirname "$0")/lib.sh"

BASALT=$(find_basalt "${1:-}")
CLUSTER=${CLUSTER:-basalt}
VICTIM=e2e-victim
BYSTANDER=e2e-bystander
LATE=e2e-late
HOLDER=e2e-holder  # A Service of somebody else.
WORK=$(mktemp -d)
clean_up() {
    kubectl delete tcp $VICTIM $BYSTANDER $LATE --ignore-not-found --wait=false > /dev/null 2>&1 || :
    kubectl delete service $HOLDER --ignore-not-found > /dev/null 2>&1 || :
    rm -rf "$WORK"
}
trap clean_up EXIT
$BASALT up --name "$CLUSTER" > "$WORK/up.log" 2>&1 || { tail -50 "$WORK/up.log"; fail "basalt up"; }
$BASALT kubeconfig --name "$CLUSTER" > "$WORK/management.conf"
export KUBECONFIG=$WORK/management.conf

manifest() {  # NAME
    sed "s/name: tenant-a/name: $1/" "$ROOT/examples/control-plane.yaml"
}
node() { "$BASALT" nodes --name "$CLUSTER" "$@"; }
tenant() { kubectl --kubeconfig "$WORK/$1.conf" --request-timeout=10s "${@:2}"; }
condition() { kubectl get "$1" -o jsonpath="{.status.conditions[?(@.type==\"${2:-Ready}\")].${3:-status}}"; }
is_ready() { [[ "$(condition "tcp/$1")" = True ]]; }
has_reason() { [[ "$(condition "$1" Ready reason)" = "$2" ]]; }
says() { condition "$1" Ready message | finds "$2"; }
become_ready() { kubectl wait --for=condition=Ready "tcp/$1" --timeout="${2:-180}s" > /dev/null || fail "$1 is not Ready"; }
ca_of() { kubectl get secret "$1-ca" -o jsonpath='{.data}' | md5sum; }
kubeconfig_of() { "$BASALT" kubeconfig get "$1" > "$WORK/$1.conf"; }
key_is_there() { [[ "$(tenant "$1" get configmap stone -o jsonpath='{.data.kind}')" = basalt ]]; }
replica_sets() { kubectl get rs -l "kamaji.clastix.io/name=$1" -o name | wc -l; }
# When it last became Ready, and how often its containers were restarted.
calm_of() {
    condition "tcp/$1" Ready lastTransitionTime
    kubectl get pods -l "kamaji.clastix.io/name=$1" -o jsonpath='{range .items[*].status.containerStatuses[*]}{.name}{.restartCount} {end}'
}
changed() { [[ "$(kubectl get "$1" -o jsonpath='{.metadata.uid}' 2> /dev/null)" != "$2" ]] && kubectl get "$1" > /dev/null; }

test_start() {
    manifest $VICTIM | kubectl apply -f - > /dev/null
    manifest $BYSTANDER | kubectl apply -f - > /dev/null
    become_ready $VICTIM
    become_ready $BYSTANDER
    kubeconfig_of $VICTIM
    kubeconfig_of $BYSTANDER
    tenant $VICTIM create configmap stone --from-literal=kind=basalt > /dev/null
    calm=$(calm_of $BYSTANDER)
    ca=$(ca_of $VICTIM)
    ok "two control planes are Ready"
}

test_broken_secret() {
    kubectl get secret $VICTIM-ca -o json > "$WORK/ca.json"
    jq -e '.data["ca.crt"]' "$WORK/ca.json" > /dev/null
    kubectl patch secret $VICTIM-ca --type merge -p "{\"data\":{\"ca.crt\":\"$(echo broken | base64)\"}}" > /dev/null
    wait_until 30 "condition of a broken Secret" has_reason tcp/$VICTIM InvalidCertificate
    says tcp/$VICTIM "$VICTIM-ca" || fail "the message does not name the Secret"
    wait_until 30 "event of a broken Secret" has_event $VICTIM InvalidCertificate
    tenant $VICTIM get --raw /readyz > /dev/null || fail "the control plane stopped serving"
    kubectl patch secret $VICTIM-ca --type merge -p "{\"data\":{\"ca.crt\":$(jq '.data["ca.crt"]' "$WORK/ca.json")}}" > /dev/null
    become_ready $VICTIM 60
    [[ "$(ca_of $VICTIM)" = "$ca" ]] || fail "the authority was replaced"
    ok "a broken PEM is a condition and an event, and over when mended"
}

test_deleted_objects() {
    local kind name uid
    for kind in configmap/$VICTIM-kubeadmconfig service/$VICTIM deployment/$VICTIM secret/$VICTIM-api-server-certificate; do
        uid=$(kubectl get "$kind" -o jsonpath='{.metadata.uid}')
        kubectl delete "$kind" --wait=false > /dev/null
        wait_until 60 "$kind comes back" changed "$kind" "$uid"
    done
    become_ready $VICTIM
    kubeconfig_of $VICTIM
    wait_until 60 "data after a deleted Deployment" key_is_there $VICTIM
    [[ "$(ca_of $VICTIM)" = "$ca" ]] || fail "the authority was replaced"
    ok "deleted ConfigMaps, Services, Deployments and Secrets come back"
}

test_bystander() {
    [[ "$(calm_of $BYSTANDER)" = "$calm" ]] || fail "the other control plane noticed: $calm, now $(calm_of $BYSTANDER)"
    ok "the other control plane noticed nothing"
}

test_taken_port() {
    local taken
    kubectl create service nodeport $HOLDER --tcp=80 > /dev/null
    taken=$(kubectl get service $HOLDER -o jsonpath='{.spec.ports[0].nodePort}')
    [[ -n $taken && $taken != 0 ]] || fail "the other Service has no node port"
    manifest $LATE | sed "s/serviceType: .*/serviceType: NodePort/" > "$WORK/late.yaml"
    kubectl create --dry-run=client -o json -f "$WORK/late.yaml" |
        jq ".spec.networkProfile = {address: \"192.0.2.10\", port: $taken} | del(.spec.addons.konnectivity)" > "$WORK/late.json"
    if kubectl apply -f "$WORK/late.json" > "$WORK/out" 2>&1; then fail "a port that is taken was accepted"; fi
    finds "spec.networkProfile.port.*$taken" < "$WORK/out" || fail "said is: $(cat "$WORK/out")"
    kubectl delete service $HOLDER > /dev/null
    kubectl apply -f "$WORK/late.json" > /dev/null || fail "a port that is free again is refused"
    become_ready $LATE 120
    [[ "$(kubectl get service $LATE -o jsonpath='{.spec.ports[0].nodePort}')" = "$taken" ]] || fail "it has another port"
    kubectl delete tcp $LATE --timeout=60s > /dev/null || fail "it cannot be deleted"
    ok "a port that is taken is refused by name, and taken when it is free"
}

test_datastore_away() {
    kubectl scale statefulset/etcd -n basalt-system --replicas=0 > /dev/null
    away() { [[ "$(condition datastore/default)" = False ]]; }
    wait_until 90 "condition of the DataStore" away
    told() { [[ "$(condition "tcp/$1" DataStoreReady)" = False ]] && says "tcp/$1" default; }
    wait_until 60 "condition of a control plane without its DataStore" told $VICTIM
    wait_until 60 "condition of a control plane without its DataStore" told $BYSTANDER
    wait_until 30 "event of the DataStore" has_event default Unreachable
    wait_until 30 "event of a control plane without its DataStore" has_event $VICTIM Unreachable
    kubectl scale statefulset/etcd -n basalt-system --replicas=1 > /dev/null
    kubectl rollout status statefulset/etcd -n basalt-system --timeout=120s > /dev/null
    kubectl wait --for=condition=Ready datastore/default --timeout=120s > /dev/null
    become_ready $VICTIM
    become_ready $BYSTANDER
    wait_until 120 "data after the DataStore was away" key_is_there $VICTIM
    ok "a DataStore that is away is named everywhere, and all recover when it is back"
}

# Moments are drawn anew each time and printed.
test_controller_killed() {
    manifest $LATE | kubectl apply -f - > /dev/null
    local round
    for round in 1 2 3; do
        killed=$(node exec 1 -- pkill -9 -c basalt-control || :)
        echo "   killed $killed process(es)"
        wait_until 60 "the controller runs again" node exec 1 -- pgrep basalt-control
        read -rt "$((RANDOM % 3)).$((RANDOM % 10))" <> <(:) || :
    done
    become_ready $LATE
    [[ "$(replica_sets $LATE)" = 1 ]] || fail "$(replica_sets $LATE) ReplicaSets"
    ok "a controller that is killed over and over goes on where it was"
}

test_etcd_killed() {
    kubeconfig_of $LATE
    tenant $LATE create configmap stone --from-literal=kind=basalt > /dev/null
    node exec 1 -- pkill -9 -x etcd
    wait_until 180 "the management cluster after etcd was killed" kubectl get --raw /readyz
    become_ready $LATE
    wait_until 120 "data after etcd was killed" key_is_there $LATE
    ok "killing every etcd loses nothing"
}

test_node_killed() {
    node kill 1
    node start 1
    wait_until 180 "the management cluster after its node was killed" kubectl get --raw /readyz
    serves() { tenant "$1" get --raw /readyz; }
    for name in $VICTIM $BYSTANDER $LATE; do
        wait_until 300 "$name serves again" serves $name
        become_ready $name 300
    done
    wait_until 60 "data after the node was killed" key_is_there $VICTIM
    [[ "$(ca_of $VICTIM)" = "$ca" ]] || fail "the authority was replaced"
    ok "killing the node loses nothing"
}

test_deletion() {
    local stored
    stored=$(stored_as $VICTIM)
    kubectl delete tcp $VICTIM $BYSTANDER $LATE --timeout=180s > /dev/null || fail "deletion"
    # shellcheck disable=SC2086
    none_left in_datastore $stored || fail "it is left in the DataStore"
    # What hangs on the deleted objects by owner reference goes a moment later.
    wait_until 60 "nothing is left" none_left kubectl get secrets,configmaps,services,deployments,pdb,networkpolicies \
        -l "kamaji.clastix.io/name in ($VICTIM,$BYSTANDER,$LATE)" -o name
    ok "nothing is left in the cluster and the DataStore"
}

kubectl delete tcp $VICTIM $BYSTANDER $LATE --ignore-not-found --timeout=120s > /dev/null
kubectl wait --for=condition=Ready datastore/default --timeout=120s > /dev/null
test_start
test_broken_secret
test_deleted_objects
test_bystander
test_taken_port
test_bystander
test_datastore_away
test_controller_killed
test_etcd_killed
test_node_killed
test_deletion
echo "$PASSED passed, 0 failed"
