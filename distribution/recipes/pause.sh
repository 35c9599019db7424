pause_compile() {
    bound "${CC:-cc}" -std=c11 -Os -Wall -Wextra -Werror -static -s -DVERSION="\"$PAUSE\"" -o "$OUT" "$1"
}

pause() {
    local alias source=$DISTRIBUTION/pause/pause.c references="registry.k8s.io/pause:$PAUSE"
    if [[ $MODE == build ]]; then
        step "pause-$PAUSE" "$(digest "$(<"$source")" "$PAUSE")" "$CACHE/bin/pause-$PAUSE/pause" pause_compile "$source"
    fi
    for alias in $PAUSE_ALIASES; do references+=" registry.k8s.io/pause:$alias"; done
    image pause "$PAUSE" "$references" --bare --user 65535:65535 \
        --file "$CACHE/bin/pause-$PAUSE/pause:/pause" --entrypoint /pause
}
