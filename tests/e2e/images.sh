#!/usr/bin/env bash
# The images that the end-to-end tests need beside those of a cluster: upstream's agnhost, built from its module.
#
#   images.sh build            into ${BASALT_CACHE:-/var/cache/basalt}, unless it is there
#   images.sh push HOST:PORT   to a local cluster's registry, metrics-server too
#   images.sh agnhost | metrics-server   prints the reference
#   images.sh worker           prints the archives that a worker's disk holds: what upstream's workers run
set -euo pipefail
export LC_ALL=C
E2E=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
DISTRIBUTION=$(cd "$E2E/../../distribution" && pwd)
source "$DISTRIBUTION/versions.env"
for file in "$DISTRIBUTION"/lib/{common,go,images}.sh "$DISTRIBUTION"/recipes/{kubernetes,metrics-server}.sh; do
    source "$file"
done

KUBERNETES=$(kubernetes_version_of "${KUBERNETES_MINORS%% *}")
AGNHOST=$(<"$E2E/agnhost/VERSION")
REFERENCE=registry.k8s.io/e2e-test-images/agnhost:$AGNHOST

agnhost() {
    local module=../tests/e2e/agnhost binary=$CACHE/bin/agnhost-$AGNHOST/agnhost
    require_version "$module" k8s.io/kubernetes "$KUBERNETES"
    go_binary "agnhost-$AGNHOST" agnhost "$module" k8s.io/kubernetes/test/images/agnhost
    image agnhost "$AGNHOST" "$REFERENCE" --certificates --file "$binary:/agnhost" --entrypoint /agnhost
}

images() {
    agnhost
    metrics_server
}

case ${1:-build} in
build)
    take_lock build
    build_with_go images
    ;;
push)
    MODE=archives
    mapfile -t archives < <(images)
    # Plain http: the registry of a local cluster is on its own bridge.
    python3 "$OCI" push "http://${2:?a registry is needed}" "${archives[@]}"
    ;;
agnhost) echo "$REFERENCE" ;;
worker)
    MODE=archives
    images
    for minor in $KUBERNETES_MINORS; do echo "$CACHE/images/kube-proxy-$(kubernetes_version_of "$minor").tar"; done
    echo "$CACHE/images/coredns-$COREDNS.tar"
    echo "$CACHE/images/pause-$PAUSE.tar"
    ;;
metrics-server) echo "registry.k8s.io/metrics-server/metrics-server:$METRICS_SERVER" ;;
*) sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
