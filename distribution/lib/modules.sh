# Writes the go.mod and go.sum of a module from versions.env: `distribution/build modules NAME…`. Needs the
# Go module proxy. What upstream replaces by a folder of its repository is replaced here by its release.

upstream_go_mod() { go mod download -json "$1" | sed -n 's/^\t"GoMod": "\(.*\)",$/\1/p'; }

write_module() {  # MODULE "MODULE@VERSION…" [REPLACE LINES]
    local directory=$DISTRIBUTION/$1 first=${2%% *} requirement
    need_any_go
    {
        echo "// Written by \`distribution/build modules $1\`."
        echo "module basalt/distribution/$1"
        echo
        grep -m 1 '^go ' "$(upstream_go_mod "$first")"
        echo
        for requirement in $2; do echo "require ${requirement/@/ }"; done
        if [[ -n ${3:-} ]]; then printf '\n%s\n' "$3"; fi
    } >"$directory/go.mod.new"
    mv "$directory/go.mod.new" "$directory/go.mod"
    rm -f "$directory/go.sum"
    (cd "$directory" && GOFLAGS=-mod=mod GOTOOLCHAIN=local go mod tidy) || die "go mod tidy failed in $directory"
    say "$1: $(wc -l <"$directory/go.sum") lines in go.sum"
}

need_any_go() {
    command -v go >/dev/null || PATH=$PATH:/usr/local/go/bin
    command -v go >/dev/null || die "Go is needed to write go.mod files"
}

kubernetes_replacements() {  # VERSION
    sed -n "s|^\t\(k8s.io/[^ ]*\) => ./staging/.*|replace \1 => \1 v0${1#v1}|p" \
        "$(upstream_go_mod "k8s.io/kubernetes@$1")"
}

write_modules() {  # NAME
    local version
    need_any_go
    case $1 in
    kubernetes-*)
        version=$(kubernetes_version_of "${1#kubernetes-}")
        write_module "kubernetes/${1#kubernetes-}" "k8s.io/kubernetes@$version" "$(kubernetes_replacements "$version")"
        ;;
    etcd)
        write_module etcd "go.etcd.io/etcd/server/v3@$ETCD go.etcd.io/etcd/etcdctl/v3@$ETCD go.etcd.io/etcd/etcdutl/v3@$ETCD"
        ;;
    coredns) write_module coredns "github.com/coredns/coredns@$COREDNS" ;;
    konnectivity)
        version=sigs.k8s.io/apiserver-network-proxy
        write_module konnectivity "$version@$KONNECTIVITY" \
            "replace $version/konnectivity-client => $version/konnectivity-client $KONNECTIVITY"
        ;;
    metallb) write_module metallb "go.universe.tf/metallb@$METALLB" ;;
    metrics-server) write_module metrics-server "sigs.k8s.io/metrics-server@$METRICS_SERVER" ;;
    pause) ;;
    *) die "unknown: $1" ;;
    esac
}
