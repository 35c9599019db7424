#!/usr/bin/env bash
# What Kamaji's documentation has one apply, with other values: all of it is accepted as it is (strict validation by
# the API server), and becomes Ready, or says in a condition what is not in force. tests/e2e/samples.
set -Eeuo pipefail
trap 'echo "FAILED: line $LINENO: $BASH_COMMAND" >&2' ERR
source "$(dirname "$0")/lib.sh"

BASALT=$(find_basalt "${1:-}")
CLUSTER=${CLUSTER:-basalt}
WORK=$(mktemp -d)
export KUBECONFIG=$WORK/management.conf
NS=samples
STORES="samples-events samples-postgresql samples-mysql samples-nats"
clean() {
    kubectl delete kubeconfiggenerator auditors --ignore-not-found
    kubectl delete tcp --all -n $NS --timeout=120s
    kubectl delete datastore $STORES --ignore-not-found --timeout=60s
    kubectl delete namespace $NS --ignore-not-found --timeout=60s
}
trap 'clean > /dev/null 2>&1 || :; rm -rf "$WORK"' EXIT
$BASALT up --name "$CLUSTER" > "$WORK/up.log" 2>&1 || { tail -50 "$WORK/up.log"; fail "basalt up"; }
$BASALT kubeconfig --name "$CLUSTER" > "$WORK/management.conf"

condition() { kubectl get "$1" "$2" -n $NS -o jsonpath="{.status.conditions[?(@.type==\"$3\")].$4}"; }
is_condition() { [[ "$(condition "$1" "$2" "$3" "$4")" = "$5" ]]; }

clean > /dev/null 2>&1 || :
kubectl create namespace $NS > /dev/null
# A second DataStore: the same servers under another name.
kubectl get datastore default -o json |
    jq '{apiVersion, kind, metadata: {name: "samples-events"}, spec}' | kubectl apply -f - > /dev/null
for sample in "$E2E"/samples/*.yaml; do
    kubectl apply --validate=strict -n $NS -f "$sample" > "$WORK/out" 2>&1 || { cat "$WORK/out"; fail "$sample is refused"; }
done
ok "$(ls "$E2E"/samples/*.yaml | wc -l) samples are accepted"

for name in plain dual-stack with-more cloud tunnel limited by-gateway contexts; do
    kubectl wait -n $NS --for=condition=Ready "tcp/$name" --timeout=150s > /dev/null ||
        { kubectl get tcp -n $NS "$name" -o yaml; fail "$name does not become Ready"; }
done
ok "they become Ready"

[[ "$(condition tcp by-gateway Unsupported message)" = "spec.controlPlane.gateway:"* ]]
wait_until 30 "by-ingress sleeps" is_condition tcp by-ingress Ready reason Sleeping
[[ "$(condition tcp by-ingress Unsupported message)" = "spec.controlPlane.ingress:"* ]]
[[ -z "$(condition tcp plain Unsupported status)$(condition tcp limited Unsupported status)" ]]
for store in samples-postgresql samples-mysql samples-nats; do
    wait_until 30 "$store" is_condition datastore $store Ready reason Unsupported
done
wait_until 30 "on-postgresql" is_condition tcp on-postgresql Ready reason Unsupported
[[ "$(condition tcp on-postgresql Ready message)" = *samples-postgresql*driver* ]]
ok "what is not in force is said by name"

pod() { kubectl get pods -n $NS -l "kamaji.clastix.io/name=$1" -o jsonpath="$2"; }
[[ "$(pod with-more '{.items[0].spec.containers[0].name} {.items[0].spec.initContainers[0].name}')" = "beside first" ]]
[[ "$(pod cloud '{.items[0].spec.nodeSelector}')" = '{"kubernetes.io/os":"linux"}' ]]
[[ "$(pod tunnel '{.items[0].spec.containers[?(@.name=="konnectivity-server")].image}')" = */proxy-server:v0.36.0 ]]
[[ "$(kubectl get svc -n $NS dual-stack -o jsonpath='{.metadata.labels.kamaji\.clastix\.io/name}')" = dual-stack ]]
ok "their fields reach the Pods"

"$BASALT" kubeconfig get limited -n $NS > "$WORK/limited.conf"
is_condition tcp limited WriteLimited status True
[[ "$(kubectl get tcp -n $NS limited -o jsonpath='{.status.kubernetesResources.version.status}')" = WriteLimited ]]
inside() { kubectl --kubeconfig "$WORK/limited.conf" --request-timeout=10s "$@"; }
refused() { ! inside create configmap refused > "$WORK/out" 2>&1 && grep -q 'does not allow new objects' "$WORK/out"; }
wait_until 20 "creation is refused" refused
if inside delete validatingadmissionpolicybinding kamaji-write-permissions > "$WORK/out" 2>&1; then
    fail "the tenant took the limits away"
fi
refused || fail "writes are open again"
[[ "$(kubectl get datastore samples-events -o jsonpath='{.status.usedBy}')" = '["samples/limited"]' ]]
ok "a limited tenant cannot write and cannot change that"

kubectl patch tcp -n $NS limited --type merge -p '{"spec":{"kubernetes":{"version":"v1.36.3"}}}' > /dev/null
upgraded() { [[ "$(kubectl get tcp -n $NS limited -o jsonpath='{.status.kubernetesResources.version.version}')" = v1.36.3 ]]; }
wait_until 120 "upgrade of a limited tenant" upgraded
wait_until 20 "creation is still refused" refused
kubectl patch tcp -n $NS limited --type merge -p '{"spec":{"writePermissions":null}}' > /dev/null
wait_until 30 "creation is allowed again" inside create configmap allowed
ok "it is upgraded, and opened again"

generated() { [[ "$(kubectl get kubeconfiggenerator auditors -o jsonpath='{.status.availableResources}')" = 5 ]]; }
wait_until 60 "kubeconfigs" generated
kubectl get secret -n $NS plain-auditors -o jsonpath='{.data.value}' | base64 -d | finds client-certificate-data
ok "kubeconfigs are generated"

clean > "$WORK/out" 2>&1 || { cat "$WORK/out"; fail "deletion"; }
ok "all of it goes"
echo "$PASSED passed, 0 failed"
