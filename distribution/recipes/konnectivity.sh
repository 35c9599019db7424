# Upstream's tunnel: a real peer for basalt-tunnel.
konnectivity() {
    local name module=sigs.k8s.io/apiserver-network-proxy
    require_version konnectivity "$module" "$KONNECTIVITY"
    for name in server agent; do
        go_binary "konnectivity-$KONNECTIVITY" "proxy-$name" konnectivity "$module/cmd/$name"
        image "proxy-$name" "$KONNECTIVITY" "registry.k8s.io/kas-network-proxy/proxy-$name:$KONNECTIVITY" \
            --certificates --user 65532:65532 --entrypoint "/proxy-$name" \
            --file "$CACHE/bin/konnectivity-$KONNECTIVITY/proxy-$name:/proxy-$name"
    done
}
