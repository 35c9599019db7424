#!/usr/bin/env bash
# The walls around a control plane. Two tenants, one with a tunnel and one without; each is attacker and victim. As
# cluster-admin of one, everything that makes an API server dial is pointed at the provider, the other tenant and the
# attacker's own Pod: forged Nodes, Pods, Endpoints, ExternalName APIServices, webhooks by URL.
#
#   tests/e2e/isolation_test.sh [PROGRAM]     CLUSTER=name: the management cluster, brought up when missing
#
# Two independent proofs for each attack: a log of all that the control plane's Pods dial (in their own network
# namespace, loopback included) names nothing that was asked for; and from the same network namespace, where nothing but
# the NetworkPolicy stands in the way, no target can be reached. That the targets can be reached at all is shown from a
# Pod beside it, and that the attacks would dial is shown with a machine that the tenant may reach.
set -Eeuo pipefail
trap 'echo "FAILED: line $LINENO: $BASH_COMMAND" >&2' ERR
source "$(dirname "$0")/lib.sh"

BASALT=$(find_basalt "${1:-}")
CLUSTER=${CLUSTER:-basalt}
NS=e2e-walls
TENANTS="tunnel direct"  # Names of the control planes.
SITE=walls-$$            # Network namespace of the tenant's machine.
METADATA=169.254.169.254
WORK=$(mktemp -d)
declare -A POD_IP POD_NET  # Of each control plane, and of the Pod "free".
declare -A PROXY           # Port of kubectl proxy to each tenant.
PIDS=()

clean_up() {
    local status=$? pid
    trap - EXIT
    for pid in "${PIDS[@]}"; do kill "$pid" 2>/dev/null || :; done
    if [[ -n ${NODE_NET:-} ]]; then in_net "$NODE_NET" ip addr del "$METADATA/32" dev lo 2>/dev/null || :; fi
    ip netns del "$SITE" 2>/dev/null || :
    kubectl delete namespace $NS --wait=false > /dev/null 2>&1 || :
    rm -rf "$WORK"
    exit $status
}
trap clean_up EXIT

tenant() { local name=$1; shift; kubectl --kubeconfig "$WORK/$name.conf" "$@"; }
in_net() { local net=$1; shift; nsenter --net="$net" "$@"; }
# can_dial NET HOST PORT: whether a TCP connection comes about.
can_dial() { in_net "$1" timeout 3 bash -c "exec 3<>/dev/tcp/$2/$3" 2> /dev/null; }

# The link-local address of the node at the other end of a Pod's eth0, as the Pod dials it.
link_local_of() {
    local mac a b c d e f
    mac=$(in_net "${POD_NET[$1]}" ip neigh show dev eth0 | sed -nE 's/.* lladdr ([0-9a-f:]{17}).*/\1/p' | head -1)
    IFS=: read -r a b c d e f <<< "$mac"
    printf 'fe80::%x:%xff:fe%s:%s%%eth0\n' $((((0x$a ^ 2) << 8) | 0x$b)) $((0x$c)) "$d" "$e$f"
}

# The network namespace of the Pod with an address: that of its pause process.
net_of() {
    local pid
    for pid in $(pgrep -x pause); do
        # Pods of other clusters have the same addresses.
        grep -q ":/basalt/$CLUSTER/" "/proc/$pid/cgroup" 2> /dev/null || continue
        if in_net "/proc/$pid/ns/net" ip -4 -o addr show dev eth0 2> /dev/null | finds -F " $1/"; then
            echo "/proc/$pid/ns/net"
            return
        fi
    done
    return 1
}

manifest() {  # NAME ADDONS
    cat <<YAML
apiVersion: kamaji.clastix.io/v1alpha1
kind: TenantControlPlane
metadata: {name: $1, namespace: $NS}
spec:
  controlPlane:
    deployment: {replicas: 1}
    service: {serviceType: LoadBalancer}
  kubernetes: {version: v1.36.3}
  addons: {$2}
YAML
}

prepare() {
    local name
    $BASALT up --name "$CLUSTER" > "$WORK/up.log" 2>&1 || { tail -50 "$WORK/up.log"; fail "basalt up"; }
    $BASALT kubeconfig --name "$CLUSTER" > "$WORK/management.conf"
    export KUBECONFIG=$WORK/management.conf
    kubectl delete namespace $NS --ignore-not-found --timeout=120s > /dev/null
    kubectl create namespace $NS > /dev/null
    kubectl wait --for=condition=Ready datastore/default --timeout=120s > /dev/null
    { manifest tunnel 'konnectivity: {}'; echo ---; manifest direct 'coreDNS: {}'; } | kubectl apply -f - > /dev/null
    kubectl run free -n $NS --image="$(kubectl get pods -n kube-system -l component=etcd -o 'jsonpath={.items[0].spec.containers[0].image}')" \
        --command -- etcd --data-dir=/tmp/etcd --listen-client-urls=http://0.0.0.0:2379 --advertise-client-urls=http://127.0.0.1:2379 > /dev/null
    kubectl wait -n $NS --for=condition=Ready tcp/tunnel tcp/direct pod/free --timeout=180s > /dev/null
    for name in $TENANTS; do
        kubectl get secret -n $NS "$name-admin-kubeconfig" -o 'jsonpath={.data.admin\.conf}' | base64 -d > "$WORK/$name.conf"
        POD_IP[$name]=$(kubectl get pods -n $NS -l "kamaji.clastix.io/name=$name" -o 'jsonpath={.items[0].status.podIP}')
    done
    POD_IP[free]=$(kubectl get pod -n $NS free -o 'jsonpath={.status.podIP}')
    for name in $TENANTS free; do POD_NET[$name]=$(net_of "${POD_IP[$name]}") || fail "network namespace of $name"; done
    NODE_NET=/proc/$($BASALT nodes --name "$CLUSTER" list | awk 'NR == 1 {print $4}')/ns/net
    ok "two control planes are Ready, with and without a tunnel"
}

# A machine of the tenant on the bridge: it has routes to the LoadBalancer addresses and to nothing else. A page and
# a log of who asked for it; its service of cloud metadata is the management node's.
start_machines() {
    local status network bridge
    status=$($BASALT status --name "$CLUSTER")
    network=$(awk '/^network/ {print $2}' <<< "$status")
    bridge=$(awk '/^network/ {print $4}' <<< "$status")
    PREFIX=${network%.0.0/16}
    MACHINE=$PREFIX.5.$((1 + $$ % 250))
    ip netns add "$SITE"
    ip link add "bw$$" type veth peer name eth0 netns "$SITE"
    ip link set "bw$$" master "$bridge" up
    ip -n "$SITE" link set lo up
    ip -n "$SITE" address add "$MACHINE/32" dev eth0
    ip -n "$SITE" link set eth0 up
    ip -n "$SITE" route add "$PREFIX.8.0/24" dev eth0
    # Answers to the management node, from whose address its Pods come; not the other way round.
    ip -n "$SITE" route add "$PREFIX.0.11" dev eth0
    ip netns exec "$SITE" nft -f - <<NFT
table ip walls {
    counter arrivals {}
    chain input { type filter hook input priority filter; policy accept; tcp dport 8080 ct state new counter name arrivals; }
    chain output { type filter hook output priority filter; policy accept; ip daddr $PREFIX.0.11 ct state new reject; }
}
NFT
    mkdir "$WORK/page"
    echo 'the page of the machine' > "$WORK/page/hello"
    (cd "$WORK/page" && exec ip netns exec "$SITE" python3 -m http.server --bind "$MACHINE" 8080) >> "$WORK/machine.log" 2>&1 &
    PIDS+=($!)
    in_net "$NODE_NET" ip addr replace "$METADATA/32" dev lo
    (cd "$WORK/page" && exec nsenter --net="$NODE_NET" python3 -m http.server --bind "$METADATA" 80) > "$WORK/metadata.log" 2>&1 &
    PIDS+=($!)
    wait_until 10 "the machine's page" can_dial "/run/netns/$SITE" "$MACHINE" 8080
    wait_until 10 "the metadata service" can_dial "$NODE_NET" "$METADATA" 80
}

# An agent of the tenant's tunnel on its machine, with the credential that lies there.
start_agent() {
    local address
    address=$(kubectl get service -n $NS tunnel -o 'jsonpath={.status.loadBalancer.ingress[0].ip}')
    tenant tunnel create token -n kube-system konnectivity-agent --audience=system:konnectivity-server > "$WORK/token"
    tenant tunnel get configmap -n kube-public kube-root-ca.crt -o 'jsonpath={.data.ca\.crt}' > "$WORK/ca.crt"
    ip netns exec "$SITE" "$(dirname "$BASALT")/basalt-tunnel" agent --ca-cert="$WORK/ca.crt" --proxy-server-host="$address" \
        --proxy-server-port=8132 --service-account-token-path="$WORK/token" --agent-id=machine > "$WORK/agent.log" 2>&1 &
    PIDS+=($!)
    wait_until 20 "the agent connects" grep -q 'connected to a tunnel server' "$WORK/agent.log"
    test_agent_token "$address"
}

# The token lies on every machine of the tenant: it opens the tunnel and nothing else.
test_agent_token() {  # ADDRESS
    local status
    ask_with() {  # TOKEN: not among arguments, where others would see it.
        curl -s --noproxy '*' --max-time 10 -o /dev/null -w '%{http_code}' --cacert "$WORK/ca.crt" \
            -H "@-" "https://$1:6443/api/v1/namespaces" <<< "Authorization: Bearer $2"
    }
    status=$(ask_with "$1" "$(< "$WORK/token")")
    [[ $status == 401 ]] || fail "the API server answers the agent's token with $status"
    # The same account with a token for the API server is known there, and may not do this.
    status=$(ask_with "$1" "$(tenant tunnel create token -n kube-system konnectivity-agent)")
    [[ $status == 403 ]] || fail "the API server answers another token of the agent's account with $status"
    ok "the agent's token is worthless at the API server"
}

# get ATTACKER PATH: the status and then the answer, as its cluster-admin.
get() {
    local answer
    answer=$(curl -s --max-time 15 -w '\n%{http_code}' "http://127.0.0.1:${PROXY[$1]}$2") || :
    printf '%s %s\n' "${answer##*$'\n'}" "${answer%$'\n'*}"
}
start_proxies() {
    local name
    for name in $TENANTS; do
        # Not the function: the id is to be that of the program.
        kubectl --kubeconfig "$WORK/$name.conf" proxy --port=0 > "$WORK/$name.proxy" 2>&1 &
        PIDS+=($!)
        wait_until 10 "kubectl proxy" grep -q 'Starting to serve' "$WORK/$name.proxy"
        PROXY[$name]=$(sed -nE 's/.*127\.0\.0\.1:([0-9]+).*/\1/p' "$WORK/$name.proxy")
    done
}

# Lines "name host port": what no tenant may reach. $1 is the attacker.
targets() {
    local other=direct
    if [[ $1 == direct ]]; then other=tunnel; fi
    cat <<LIST
management-api $PREFIX.0.11 6443
management-api-service 10.33.0.1 443
management-etcd $PREFIX.0.11 2379
kubelet $PREFIX.0.11 10250
registry $PREFIX.0.1 5000
metadata $METADATA 80
controller $CONTROLLER_IP 8081
controller-service $(kubectl get service -n basalt-system basalt-controller -o 'jsonpath={.spec.clusterIP}') 443
dns-metrics $DNS_IP 9153
pod-beside ${POD_IP[free]} 2379
other-pod ${POD_IP[$other]} 6443
other-service $(kubectl get service -n $NS $other -o 'jsonpath={.spec.clusterIP}') 6443
other-balancer $(kubectl get service -n $NS $other -o 'jsonpath={.status.loadBalancer.ingress[0].ip}') 6443
LIST
}

find_targets() {
    local name
    DATASTORE_IP=$(kubectl get pod -n basalt-system etcd-0 -o 'jsonpath={.status.podIP}')
    CONTROLLER_IP=$(kubectl get pods -n basalt-system -l app.kubernetes.io/name=basalt-controller -o 'jsonpath={.items[0].status.podIP}')
    DNS_IP=$(kubectl get pods -n kube-system -l k8s-app=kube-dns -o 'jsonpath={.items[0].status.podIP}')
    for name in $TENANTS; do targets "$name" > "$WORK/$name.targets"; done
}

test_control_experiment() {
    local attacker name host port
    for attacker in $TENANTS; do
        while read -r name host port; do
            can_dial "${POD_NET[free]}" "$host" "$port" || fail "$name ($host:$port) cannot be reached even from a Pod without walls"
        done < "$WORK/$attacker.targets"
        for port in 10257 10259 8134; do
            can_dial "${POD_NET[$attacker]}" 127.0.0.1 $port || fail "nothing listens on port $port of $attacker"
        done
    done
    can_dial "${POD_NET[free]}" "$(link_local_of free)" 10250 || fail "a Pod without walls cannot dial its node's link-local address $(link_local_of free)"
    ok "every target can be reached from a Pod beside the control planes"
}

test_policy_alone() {
    local attacker name host port
    for attacker in $TENANTS; do
        while read -r name host port; do
            if can_dial "${POD_NET[$attacker]}" "$host" "$port"; then fail "the NetworkPolicy lets $attacker dial $name ($host:$port)"; fi
        done < "$WORK/$attacker.targets"
        can_dial "${POD_NET[$attacker]}" "$DATASTORE_IP" 2379 || fail "$attacker cannot dial its DataStore"
        can_dial "${POD_NET[free]}" "${POD_IP[$attacker]}" 6443 || fail "clients cannot dial the API server of $attacker"
        # The kubelet listens on [::], also at the node's end of the Pod's own link.
        if can_dial "${POD_NET[$attacker]}" "$(link_local_of "$attacker")" 10250; then fail "the NetworkPolicy lets $attacker dial its node's link-local address"; fi
        for port in 10257 10259 8134; do
            if can_dial "${POD_NET[free]}" "${POD_IP[$attacker]}" $port; then fail "anybody can dial port $port of $attacker"; fi
        done
    done
    for port in 2380 2381; do
        if can_dial "${POD_NET[free]}" "$DATASTORE_IP" $port; then fail "anybody can dial port $port of the DataStore"; fi
    done
    if can_dial "${POD_NET[tunnel]}" "$MACHINE" 8080; then fail "with a tunnel nothing is dialled but through it"; fi
    can_dial "${POD_NET[direct]}" "$MACHINE" 8080 || fail "without a tunnel the tenant's machines must be in reach"
    ok "the NetworkPolicies alone keep both control planes from every target"
}

# A log of what the Pod dials: its own network namespace, before anything is translated or refused.
start_dial_log() {
    in_net "${POD_NET[$1]}" nft -f - <<'NFT'
table inet walls {
    set dials { type ipv4_addr . inet_service; flags dynamic; size 1024; }
    set dials6 { type ipv6_addr . inet_service; flags dynamic; size 1024; }
    chain output {
        type filter hook output priority -400; policy accept;
        tcp flags & (syn | ack) == syn add @dials { ip daddr . tcp dport }
        tcp flags & (syn | ack) == syn add @dials6 { ip6 daddr . tcp dport }
    }
}
NFT
}
dial_log() {
    in_net "${POD_NET[$1]}" nft -j list table inet walls |
        jq -r '.nftables[] | .set? // empty | .elem // [] | .[] | (if type == "object" and has("elem") then .elem.val else . end) | .concat | "\(.[0]) \(.[1])"'
}

forged_node() {  # NAME ADDRESS
    cat <<YAML
---
apiVersion: v1
kind: Node
metadata: {name: $1}
status: {addresses: [{type: InternalIP, address: "$2"}]}
YAML
}

# Everything that makes an API server dial HOST:PORT, as manifests of the tenant. Endpoints by hand are followed only
# when they name a Pod that has the address: the forged one.
attack_manifests() {  # NAME HOST PORT
    forged_node "node-$1" "$2"
    cat <<YAML
---
apiVersion: v1
kind: Pod
metadata: {name: pod-$1, namespace: default}
spec: {nodeName: node-$1, automountServiceAccountToken: false, containers: [{name: a, image: a}]}
---
apiVersion: v1
kind: Service
metadata: {name: endpoints-$1, namespace: default}
spec: {clusterIP: None, ports: [{name: a, port: $3, targetPort: $3}]}
---
apiVersion: v1
kind: Endpoints
metadata: {name: endpoints-$1, namespace: default}
subsets: [{addresses: [{ip: "$2", targetRef: {kind: Pod, name: pod-$1, namespace: default}}], ports: [{name: a, port: $3}]}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: slice-$1, namespace: default, labels: {kubernetes.io/service-name: endpoints-$1}}
addressType: IPv4
endpoints: [{addresses: ["$2"], conditions: {ready: true}, targetRef: {kind: Pod, name: pod-$1, namespace: default}}]
ports: [{name: a, port: $3}]
---
apiVersion: v1
kind: Service
metadata: {name: external-$1, namespace: default}
spec: {type: ExternalName, externalName: "$2"}
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1.$1.walls.example}
spec:
  group: $1.walls.example
  version: v1
  groupPriorityMinimum: 100
  versionPriority: 100
  insecureSkipTLSVerify: true
  service: {namespace: default, name: external-$1, port: $3}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: webhook-$1}
webhooks:
- name: $1.walls.example
  clientConfig: {url: "https://$2:$3/"}
  rules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}]
  namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: default}}
  failurePolicy: Ignore
  sideEffects: None
  timeoutSeconds: 2
  admissionReviewVersions: [v1]
YAML
}

# What the attacks of one target answer is kept, a line each; none may bring anything back.
attack_one() {  # ATTACKER NAME HOST PORT
    local path scheme
    for scheme in http https; do
        for path in "nodes/$scheme:node-$2:$4" "namespaces/default/pods/$scheme:pod-$2:$4" "namespaces/default/services/$scheme:endpoints-$2:a"; do
            printf '%s %s %s\n' "$2" "$path" "$(get "$1" "/api/v1/$path/proxy/hello" | tr -s ' \n' ' ')"
        done
    done
    printf '%s apiservice %s\n' "$2" "$(get "$1" "/apis/$2.walls.example/v1/x" | tr -s ' \n' ' ')"
}

# An attack with an object that does not exist would prove nothing. What validation refuses is Endpoints of names and
# of loopback.
expect_created() {  # ATTACKER
    local kind wanted count
    for kind in node pod service apiservice validatingwebhookconfiguration; do
        wanted=$(wc -l < "$WORK/$1.attacks")
        if [[ $kind == service ]]; then wanted=$((2 * wanted)); fi
        count=$(grep -cE "^${kind}[./].* created\$" "$WORK/$1.created") || :
        ((count == wanted)) || { cat "$WORK/$1.created" >&2; fail "$1: $count of $wanted objects $kind were created"; }
    done
    if grep -vE ' created$|^Warning: |Endpoint|^\* subsets|^\* endpoints' "$WORK/$1.created"; then fail "$1: something else was refused"; fi
}

# Everything at once: what takes time here is waiting.
attack() {  # ATTACKER: with its targets, and its own Pod
    local name host port pids=() pid
    { cat "$WORK/$1.targets"
      printf '%s\n' "own-manager 127.0.0.1 10257" "own-scheduler localhost 10259" "own-health ${POD_IP[$1]} 8134" \
          "management-by-name kubernetes.default.svc.cluster.local 443" "datastore $DATASTORE_IP 2379"
    } > "$WORK/$1.attacks"
    while read -r name host port; do attack_manifests "$name" "$host" "$port"; done < "$WORK/$1.attacks" > "$WORK/$1.yaml"
    tenant "$1" create --validate=false -f "$WORK/$1.yaml" > "$WORK/$1.created" 2>&1 || :
    expect_created "$1"
    while read -r name host port; do
        # A name is no address.
        if [[ $host != *[0-9].[0-9]* ]]; then continue; fi
        tenant "$1" patch pod "pod-$name" --subresource=status --type=merge \
            -p "{\"status\":{\"phase\":\"Running\",\"podIP\":\"$host\",\"podIPs\":[{\"ip\":\"$host\"}]}}" > /dev/null
    done < "$WORK/$1.attacks"
    while read -r name host port; do
        attack_one "$1" "$name" "$host" "$port" > "$WORK/$1.$name.answers" &
        pids+=($!)
    done < "$WORK/$1.attacks"
    tenant "$1" create configmap walls --dry-run=server > /dev/null &
    pids+=($!)
    for pid in "${pids[@]}"; do wait "$pid"; done
}

# Each way of dialling works when it is pointed at the tenant's own machine: otherwise the attacks prove nothing.
arrivals() { ip netns exec "$SITE" nft -j list counter ip walls arrivals | jq '.nftables[] | .counter? // empty | .packets'; }
arrived_since() { (($(arrivals) > $1)); }
page_comes() {
    local answer
    answer=$(get "$1" "/api/v1/$2/proxy/hello" 2>&1 || :)
    [[ $answer == *'the page of the machine'* ]] || { echo "$answer"; return 1; }
}
test_attacks_would_dial() {  # ATTACKER
    local path before
    attack_manifests machine "$MACHINE" 8080 | tenant "$1" create --validate=false -f - > "$WORK/$1.machine" 2>&1
    tenant "$1" patch pod pod-machine --subresource=status --type=merge \
        -p "{\"status\":{\"phase\":\"Running\",\"podIP\":\"$MACHINE\",\"podIPs\":[{\"ip\":\"$MACHINE\"}]}}" > /dev/null
    for path in nodes/http:node-machine:8080 namespaces/default/pods/http:pod-machine:8080 namespaces/default/services/http:endpoints-machine:a; do
        wait_until 20 "$1: $path" page_comes "$1" "$path"
    done
    # These two speak TLS, which the page does not: they arrive.
    tenant "$1" delete apiservice v1.machine.walls.example > /dev/null
    before=$(arrivals)
    attack_manifests machine "$MACHINE" 8080 | tenant "$1" create --validate=false -f - > /dev/null 2>&1 || :
    wait_until 20 "$1: the APIService dials" arrived_since "$before"
    tenant "$1" delete apiservice v1.machine.walls.example > /dev/null
    before=$(arrivals)
    tenant "$1" create configmap machine --dry-run=server > /dev/null
    wait_until 20 "$1: the webhook dials" arrived_since "$before"
    tenant "$1" delete validatingwebhookconfiguration webhook-machine > /dev/null
    ok "$1: Node, Pod, Endpoints, APIService and webhook reach the tenant's own machine"
}

# Every attack is answered, with a refusal: 000 is a proxy that is gone, 404 an object that was never there.
expect_refusals() {  # ATTACKER
    local name host port count called odd
    while read -r name host port; do
        count=$(wc -l < "$WORK/$1.$name.answers")
        ((count == 7)) || fail "$1: $count of 7 attacks on $name were answered"
        cat "$WORK/$1.$name.answers"
    done < "$WORK/$1.attacks" > "$WORK/$1.answered"
    # What validation did not let in, and what answers everybody who asks it, here the tenant's own machine.
    sed -nE 's|.*Endpoints "endpoints-([a-z-]+)" is invalid.*|\1|p' "$WORK/$1.created" > "$WORK/without"
    odd=$(awk -v attacker="$1" '
        FILENAME == ARGV[1] { without[$1]; next }
        $3 == 403 || $3 ~ /^5[0-9][0-9]$/ { next }
        $3 == 400 && /address not allowed/ { next }  # The own rule of API servers, for loopback and link-local.
        $3 == 404 && $1 in without && $2 ~ /services/ { next }
        attacker == "tunnel" && $1 == "other-balancer" && /HTTP request to an HTTPS server/ { next }
        { print }' "$WORK/without" "$WORK/$1.answered")
    [[ -z $odd ]] || { echo "$odd" >&2; fail "$1: these attacks were not refused"; }
    # A webhook that cannot be called is passed over: the API server counts those.
    called=$(get "$1" /metrics | grep -cE '^apiserver_admission_webhook_fail_open_count\{name="[a-z-]+\.walls\.example",type="validating"\} [1-9]') || :
    ((called >= $(wc -l < "$WORK/$1.attacks"))) || fail "$1: only $called webhooks were called"
}

test_attacks() {  # ATTACKER
    local host port bad=
    attack "$1"
    expect_refusals "$1"
    # The DataStore is dialled anyway, so the log cannot tell: the answer does.
    if [[ $1 == direct ]]; then grep -q 'outside of what this control plane may reach' "$WORK/direct.datastore.answers"; fi
    dial_log "$1" > "$WORK/$1.dials"
    while read -r host port; do
        case "$host $port" in
        "$DATASTORE_IP 2379" | "127.0.0.1 6443" | "${POD_IP[$1]} 6443" | "10.33.0.10 53") ;;
        "$(kubectl get service -n $NS "$1" -o 'jsonpath={.spec.clusterIP}') 8132") ;;
        "$MACHINE 8080") if [[ $1 == tunnel ]]; then bad+=" $host:$port"; fi ;;
        *) bad+=" $host:$port" ;;
        esac
    done < "$WORK/$1.dials"
    [[ -z $bad ]] || fail "$1: its Pod dialled$bad"
    log_works "$1"
    ok "$1: $(wc -l < "$WORK/$1.attacks") targets, eight ways each: nothing was dialled"
}

# That the log would have noticed is shown with a connection of our own.
log_works() {
    can_dial "${POD_NET[$1]}" "$DATASTORE_IP" 2379
    can_dial "${POD_NET[$1]}" 127.0.0.1 10257
    dial_log "$1" > "$WORK/dials"
    grep -qx "$DATASTORE_IP 2379" "$WORK/dials" && grep -qx '127.0.0.1 10257' "$WORK/dials" || fail "the log of dials does not work"
}

test_still_works() {
    local name
    for name in $TENANTS; do
        tenant "$name" delete validatingwebhookconfigurations --all > /dev/null
        tenant "$name" delete apiservices -l '!kube-aggregator.kubernetes.io/automanaged' --ignore-not-found > /dev/null
        tenant "$name" create configmap after -n default > /dev/null
        [[ "$(kubectl get tcp -n $NS "$name" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}')" == True ]] || fail "$name is not Ready any more"
    done
    ok "both control planes go on"
}

prepare
start_machines
start_agent
start_proxies
find_targets
test_control_experiment
test_policy_alone
for name in $TENANTS; do
    start_dial_log "$name"
    test_attacks_would_dial "$name"
    test_attacks "$name"
done
test_still_works
echo "$PASSED passed, 0 failed"
