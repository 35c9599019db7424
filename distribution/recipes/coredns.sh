coredns() {
    local alias references="registry.k8s.io/coredns/coredns:$COREDNS"
    require_version coredns github.com/coredns/coredns "$COREDNS"
    go_binary "coredns-$COREDNS" coredns coredns github.com/coredns/coredns "" grpcnotrace
    for alias in $COREDNS_ALIASES; do references+=" registry.k8s.io/coredns/coredns:$alias"; done
    # It runs as nobody and listens on port 53: a file capability, as upstream's image has.
    image coredns "$COREDNS" "$references" --certificates --user 65532:65532 \
        --file "$CACHE/bin/coredns-$COREDNS/coredns:/coredns" --capability /coredns=net_bind_service \
        --entrypoint /coredns
}
