metrics_server() {
    require_version metrics-server sigs.k8s.io/metrics-server "$METRICS_SERVER"
    go_binary "metrics-server-$METRICS_SERVER" metrics-server metrics-server \
        sigs.k8s.io/metrics-server/cmd/metrics-server "-X k8s.io/client-go/pkg/version.gitVersion=$METRICS_SERVER"
    image metrics-server "$METRICS_SERVER" "registry.k8s.io/metrics-server/metrics-server:$METRICS_SERVER" \
        --certificates --user 65534:65534 --entrypoint /metrics-server \
        --file "$CACHE/bin/metrics-server-$METRICS_SERVER/metrics-server:/metrics-server"
}
