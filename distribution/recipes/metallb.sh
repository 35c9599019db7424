# Layer 2 and native BGP; the tools for FRR are left out.
metallb() {
    local name module=go.universe.tf/metallb
    require_version metallb "$module" "$METALLB"
    for name in controller speaker; do
        go_binary "metallb-$METALLB" "$name" metallb "$module/$name"
        image "metallb-$name" "$METALLB" "quay.io/metallb/$name:$METALLB" --certificates \
            --file "$CACHE/bin/metallb-$METALLB/$name:/$name" --entrypoint "/$name"
    done
}
