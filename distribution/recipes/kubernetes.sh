# Kubernetes, one minor. Stripped, without cgo, and with the version that upstream's own build writes.

readonly KUBERNETES_NODE_PROGRAMS="kubelet kubeadm kubectl"
readonly KUBERNETES_CONTROL_PLANE="kube-apiserver kube-controller-manager kube-scheduler"

kubernetes_version_of() { local name=KUBERNETES_${1/./_}; echo "${!name}"; }

kubernetes_ldflags() {  # MINOR VERSION
    local package date=KUBERNETES_${1/./_}_DATE
    for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
        printf -- '-X %s.%s ' "$package" "gitVersion=$2" "$package" "gitMajor=${1%.*}" "$package" "gitMinor=${1#*.}" \
            "$package" gitCommit= "$package" gitTreeState=archive "$package" "buildDate=${!date}"
    done
}

kubernetes() {  # MINOR
    local minor=$1 version name ldflags bin
    version=$(kubernetes_version_of "$minor")
    ldflags=$(kubernetes_ldflags "$minor" "$version")
    bin=$CACHE/bin/kubernetes-$version
    require_version "kubernetes/$minor" k8s.io/kubernetes "$version"
    for name in $KUBERNETES_NODE_PROGRAMS $KUBERNETES_CONTROL_PLANE kube-proxy; do
        go_binary "kubernetes-$version" "$name" "kubernetes/$minor" "k8s.io/kubernetes/cmd/$name" "$ldflags"
    done
    for name in $KUBERNETES_CONTROL_PLANE; do
        image "$name" "$version" "registry.k8s.io/$name:$version" --certificates \
            --file "$bin/$name:/usr/local/bin/$name" --entrypoint "/usr/local/bin/$name"
    done
    # kube-proxy in nftables mode runs nft.
    image kube-proxy "$version" "registry.k8s.io/kube-proxy:$version" --certificates \
        --file "$bin/kube-proxy:/usr/local/bin/kube-proxy" --program /usr/sbin/nft:/usr/sbin/nft \
        --entrypoint /usr/local/bin/kube-proxy
}

# kubelet, kubeadm and kubectl travel through a registry as an image of ours; no node runs it.
node_binaries() {  # MINOR
    local version name
    local -a files=()
    version=$(kubernetes_version_of "$1")
    for name in $KUBERNETES_NODE_PROGRAMS; do
        files+=(--file "$CACHE/bin/kubernetes-$version/$name:/$name")
    done
    image node-binaries "$version" "ghcr.io/basalt/node-binaries:$version" "${files[@]}"
}
