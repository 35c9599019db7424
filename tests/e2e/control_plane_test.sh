#!/usr/bin/env bash
# The life of a control plane on a local cluster: Ready, drift, sleep and wake, certificates, upgrade without a
# failed request, faults that say what is wrong, deletion without a trace.
set -Eeuo pipefail
trap 'echo "FAILED: line $LINENO: $BASH_COMMAND" >&2' ERR
source "$(dirname "$0")/lib.sh"

BASALT=$(find_basalt "${1:-}")
CLUSTER=${CLUSTER:-basalt}
NAME=e2e-life
WORK=$(mktemp -d)
trap 'kubectl delete tcp $NAME $NAME-broken --ignore-not-found --wait=false > /dev/null 2>&1 || :; rm -rf "$WORK"' EXIT
$BASALT up --name "$CLUSTER" > "$WORK/up.log" 2>&1 || { tail -50 "$WORK/up.log"; fail "basalt up"; }
$BASALT kubeconfig --name "$CLUSTER" > "$WORK/management.conf"
export KUBECONFIG=$WORK/management.conf
export PATH=$PATH:$CACHE/bin/kubernetes-v1.36.3  # kubeadm

manifest() {  # NAME VERSION
    cat <<YAML
apiVersion: kamaji.clastix.io/v1alpha1
kind: TenantControlPlane
metadata: {name: $1, namespace: default}
spec:
  controlPlane:
    deployment: {replicas: 1}
    service: {serviceType: LoadBalancer}
  kubernetes: {version: $2}
  addons: {coreDNS: {}, kubeProxy: {}, konnectivity: {}}
YAML
}
ready() { kubectl wait --for=condition=Ready "tcp/$NAME" --timeout=120s > /dev/null; }
reason() { kubectl get tcp "$1" -o jsonpath='{.status.conditions[?(@.type=="Ready")].reason}'; }
is_reason() { [[ "$(reason "$1")" = "$2" ]]; }
tenant() { kubectl --kubeconfig "$WORK/tenant.conf" "$@"; }
pod_count() { kubectl get pods -l "kamaji.clastix.io/name=$1" -o name | wc -l; }
status_word() { kubectl get tcp "$NAME" -o jsonpath='{.status.kubernetesResources.version.status}'; }
is_status() { [[ "$(status_word)" = "$1" ]]; }
secret_md5() { kubectl get secret "$NAME-$1" -o jsonpath='{.data}' | md5sum; }

kubectl delete tcp $NAME $NAME-broken --ignore-not-found --timeout=120s > /dev/null
kubectl wait --for=condition=Ready datastore/default --timeout=120s > /dev/null
ok "the DataStore default is Ready"

manifest $NAME v1.35.4 | kubectl apply -f - > /dev/null
ready
# Ready means that nodes can join now, not soon: what a node does first works at once.
ready_at=$EPOCHREALTIME
"$BASALT" kubeconfig get $NAME > "$WORK/tenant.conf"
kubeadm token create abcdef.0123456789abcdef --kubeconfig "$WORK/tenant.conf" > /dev/null
SERVER=$(tenant config view --minify -o 'jsonpath={.clusters[0].cluster.server}')
tenant config view --raw -o 'jsonpath={.clusters[0].cluster.certificate-authority-data}' | base64 -d > "$WORK/ca.crt"
# As nobody, like a machine that knows no more than the token.
signed() {
    curl -sS --noproxy '*' --max-time 2 --cacert "$WORK/ca.crt" "$SERVER/api/v1/namespaces/kube-public/configmaps/cluster-info" |
        jq -e '.data["jws-kubeconfig-abcdef"]'
}
wait_until 5 "cluster-info signed for a new token" signed
ok "a control plane becomes Ready; discovery with a new token works $(seconds_since "$ready_at") later"
[[ "$(kubectl get tcp $NAME -o jsonpath='{.status.observedGeneration}')" = "$(kubectl get tcp $NAME -o jsonpath='{.metadata.generation}')" ]]
ok "status.observedGeneration is the generation"
[[ "$(pod_count $NAME)" = 1 && "$(kubectl get rs -l kamaji.clastix.io/name=$NAME -o name | wc -l)" = 1 ]] ||
    fail "more than one Pod or ReplicaSet"
ok "its Pod was created once"

# One that asks for its lease before the API server grants it waits for seconds.
said=$(kubectl logs -l kamaji.clastix.io/name=$NAME -c kube-controller-manager --tail=-1)
[[ -n "$said" ]] || fail "the controller manager says nothing"
if grep -E 'error retrieving resource lock|connection refused' <<< "$said"; then fail "the controller manager asked before the API server was ready"; fi
ok "the controller manager started after the API server was ready"

tenant auth can-i '*' '*' --all-namespaces > /dev/null
tenant -n kube-public get configmap cluster-info > /dev/null
tenant -n kube-system get configmap kubeadm-config kubelet-config coredns > /dev/null
ok "the administrator's kubeconfig works, and what joining needs is there"

described=$("$BASALT" describe tcp $NAME)
[[ "${described%%$'\n'*}" == *Ready* && "$described" == *kube-apiserver* && "$described" == *DataStore* ]] ||
    fail "describe: $described"
if "$BASALT" describe tcp $NAME-missing 2> "$WORK/out"; then fail "describe of nothing"; fi
grep -q "$NAME-missing" "$WORK/out"
for shell in bash zsh fish; do "$BASALT" completion $shell > "$WORK/completion.$shell"; done
bash -n "$WORK/completion.bash"
# What a person gets for "basalt kubeconfig g<TAB>".
[[ "$(bash -c "source '$WORK/completion.bash'; COMP_WORDS=(basalt kubeconfig g) COMP_CWORD=2; _basalt_complete; echo \"\${COMPREPLY[*]}\"")" = get ]] ||
    fail "completion"
ok "describe explains it, completion completes"

tenant -n kube-system delete configmap coredns > /dev/null
tenant delete clusterrolebinding kubeadm:kubelet-bootstrap > /dev/null
tenant -n kube-system patch configmap kubelet-config --type merge -p '{"data":{"kubelet":"mine"}}' > /dev/null
wait_until 20 "deleted ConfigMap back" tenant -n kube-system get configmap coredns
wait_until 20 "deleted binding back" tenant get clusterrolebinding kubeadm:kubelet-bootstrap
restored() { tenant -n kube-system get configmap kubelet-config -o jsonpath='{.data.kubelet}' | finds KubeletConfiguration; }
wait_until 20 "edited ConfigMap back" restored
ok "what the tenant deletes and edits is put back"

before=$(secret_md5 ca)
kubectl delete secret $NAME-scheduler-kubeconfig > /dev/null
wait_until 30 "deleted Secret back" kubectl get secret $NAME-scheduler-kubeconfig
kubectl delete service $NAME > /dev/null
wait_until 30 "deleted Service back" kubectl get service $NAME
ready
[[ "$before" = "$(secret_md5 ca)" ]] || fail "the CA was replaced"
ok "deleted Secrets and Services come back, the CA stays"

before=$(secret_md5 api-server-certificate)
kubectl annotate secret $NAME-api-server-certificate certs.kamaji.clastix.io/rotate= > /dev/null
rotated() { [[ "$before" != "$(secret_md5 api-server-certificate)" ]]; }
wait_until 30 "certificate rotated" rotated
[[ "$(kubectl get secret $NAME-api-server-certificate -o jsonpath='{.metadata.annotations.certs\.kamaji\.clastix\.io/rotate}')" =~ ^20..-.*Z$ ]]
ready
ok "a certificate is rotated when asked for"

"$BASALT" upgrade $NAME v1.36.3 --wait --timeout 2m > "$WORK/out" 2>&1 || fail "upgrade: $(< "$WORK/out")"
[[ "$(kubectl get tcp $NAME -o jsonpath='{.status.kubernetesResources.version.version}')" = v1.36.3 ]]
ready
kubectl get secret $NAME-admin-kubeconfig -o jsonpath='{.data.admin\.conf}' | base64 -d > "$WORK/tenant.conf"
# The old Pod answers on until every node has dropped it from the Service.
serves_new() { [[ "$(tenant version -o json | jq -r .serverVersion.gitVersion)" = v1.36.3 ]]; }
wait_until 30 "the new version answers" serves_new
ok "an upgrade by one minor version"

if kubectl patch tcp $NAME --type merge -p '{"spec":{"kubernetes":{"version":"v1.35.4"}}}' > "$WORK/out" 2>&1; then
    fail "a downgrade was accepted"
fi
grep -q 'version' "$WORK/out"
ok "a downgrade is refused"

"$BASALT" sleep $NAME --wait > /dev/null 2>&1
is_status Sleeping
[[ "$(kubectl get tcp $NAME -o jsonpath='{.metadata.annotations.basalt\.dev/replicas-before-sleep}')" = 1 ]]
wait_until 90 "no Pods" none_left kubectl get pods -l "kamaji.clastix.io/name=$NAME" -o name
if "$BASALT" wake $NAME --wait --timeout 1ms > /dev/null 2> "$WORK/out"; then fail "awake after a millisecond"; fi
grep -q "basalt describe tcp $NAME" "$WORK/out" || fail "wake: $(< "$WORK/out")"
"$BASALT" wake $NAME --wait --timeout 2m > "$WORK/out" 2>&1 || fail "wake: $(< "$WORK/out")"
is_status Ready
ready
tenant -n kube-system get configmap coredns > /dev/null
ok "it sleeps, wakes, and has its data"

manifest $NAME-broken v1.36.99 | kubectl apply -f - > /dev/null
broken_pull() { [[ "$(reason $NAME-broken)" =~ ^(ErrImagePull|ImagePullBackOff)$ ]]; }
wait_until 90 "condition of an image that cannot be pulled" broken_pull
kubectl describe tcp $NAME-broken | finds v1.36.99
pull_event() { has_event $NAME-broken ErrImagePull || has_event $NAME-broken ImagePullBackOff; }
wait_until 30 "event of an image that cannot be pulled" pull_event
described=$("$BASALT" describe tcp $NAME-broken) && fail "describe says that all is well" || (($? == 2))
[[ "${described%%$'\n'*}" == *v1.36.99* ]] || fail "describe: $described"
kubectl patch tcp $NAME-broken --type merge -p '{"spec":{"kubernetes":{"version":"v1.36.3"}}}' > /dev/null
kubectl wait --for=condition=Ready tcp/$NAME-broken --timeout=120s > /dev/null
ok "an image that cannot be pulled is named, and mending it is enough"

read -r schema user <<< "$(stored_as $NAME)"
stored=$(in_datastore "$schema" "$user")
[[ "$(cut -d ' ' -f 1 <<< "$stored" | sort -u | xargs)" = 'key role user' ]] || fail "what is in the DataStore: $stored"
kubectl delete tcp $NAME $NAME-broken --timeout=180s > /dev/null
none_left in_datastore "$schema" "$user" || fail "it is left in the DataStore"
wait_until 60 "nothing left in the cluster" none_left \
    kubectl get deploy,svc,secret,cm,pdb,netpol -l "kamaji.clastix.io/name in ($NAME,$NAME-broken)" -o name
ok "deletion leaves nothing in the cluster and nothing in the DataStore"

echo "$PASSED passed, 0 failed"
