#!/usr/bin/env bash
# Every manifest in the documentation and in examples/ is accepted by a real API server, with our validation.
set -Eeuo pipefail
trap 'echo "FAILED: line $LINENO: $BASH_COMMAND" >&2' ERR
source "$(dirname "$0")/lib.sh"

BASALT=$(find_basalt "${1:-}")
CLUSTER=${CLUSTER:-basalt}
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
$BASALT up --name "$CLUSTER" > "$WORK/up.log" 2>&1 || { tail -50 "$WORK/up.log"; fail "basalt up"; }
$BASALT kubeconfig --name "$CLUSTER" > "$WORK/management.conf"
export KUBECONFIG=$WORK/management.conf

# The fenced YAML blocks of a page that are manifests, one file each.
blocks() {
    awk -v prefix="$2" '
        /^```yaml/ { inside = 1; n++; next }
        /^```/     { inside = 0 }
        inside     { print > (prefix "-" n ".yaml") }' "$1"
}

accepted() {
    kubectl apply --server-side --dry-run=server -f "$1" > "$WORK/out" 2>&1 || { cat "$WORK/out" >&2; fail "$2 is refused"; }
    ok "$2"
}

kubectl wait --for=condition=Ready datastore/default --timeout=120s > /dev/null
for manifest in "$ROOT"/examples/*.yaml; do accepted "$manifest" "${manifest#"$ROOT"/}"; done
while read -r page; do
    name=${page#"$ROOT"/}
    blocks "$page" "$WORK/${name//\//_}"
    for block in "$WORK/${name//\//_}"-*.yaml; do
        if [[ -f $block ]] && grep -q '^kind:' "$block"; then accepted "$block" "$name, block ${block##*-}"; fi
    done
done < <(find "$ROOT/docs" -name '*.md' | sort)
((PASSED >= 5)) || fail "only $PASSED manifests were found"
echo "$PASSED passed, 0 failed"
