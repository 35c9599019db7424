etcd() {
    local name bin=$CACHE/bin/etcd-$ETCD references
    require_version etcd go.etcd.io/etcd/server/v3 "$ETCD"
    go_binary "etcd-$ETCD" etcd etcd go.etcd.io/etcd/server/v3
    for name in etcdctl etcdutl; do
        go_binary "etcd-$ETCD" "$name" etcd "go.etcd.io/etcd/$name/v3"
    done
    references="registry.k8s.io/etcd:${ETCD#v}-0"
    for name in $ETCD_ALIASES; do references+=" registry.k8s.io/etcd:$name"; done
    image etcd "$ETCD" "$references" --certificates \
        --file "$bin/etcd:/usr/local/bin/etcd" --file "$bin/etcdctl:/usr/local/bin/etcdctl" \
        --file "$bin/etcdutl:/usr/local/bin/etcdutl" --command /usr/local/bin/etcd
}
