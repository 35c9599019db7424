# Images: one OCI archive each.

OCI=$DISTRIBUTION/lib/oci.py
# Counts up when oci.py lays archives out differently, so that they are made again.
readonly OCI_FORMAT=1

oci_create() { bound python3 "$OCI" create "$OUT" "$@"; }

# Sets PULLED to whether the registry had another image than the archive. What came from a registry has no
# stamp: a later build makes it again.
pull_image() {  # NAME ARCHIVE REFERENCE ARGUMENTS...
    local name=$1 archive=$2 before
    before=$(stat -c '%i %Y' "$archive" 2>/dev/null || true)
    bound python3 "$OCI" pull "$REGISTRY" "$3" "$archive" "${@:4}" || die "$3 cannot be pulled from $PULLED_FROM.
Name a registry that another machine pushed to (distribution/build push HOST:PORT):
    distribution/build pull HOST:PORT
    basalt up --images pull --images-from HOST:PORT
    make up IMAGES=pull IMAGES_FROM=HOST:PORT"
    PULLED=false
    if [[ $(stat -c '%i %Y' "$archive") != "$before" ]]; then
        PULLED=true
        rm -f "$CACHE/stamps/image-$name"
    fi
}

# image NAME VERSION "REFERENCE [ALIAS…]" ARGUMENTS...: CACHE/images/NAME-VERSION.tar, ARGUMENTS are those of
# `oci.py create`. Made again when an argument changes or a file that it names.
image() {
    local name=$1 version=$2 references=$3 key argument archive
    local -a arguments=() files=() names
    shift 3
    read -ra names <<<"$references"
    archive=$CACHE/images/$name-$version.tar
    case $MODE in
    list) printf '%s\t%s\t%s\n' "$name-$version" "${names[0]}" "$archive"; return ;;
    archives) echo "$archive"; return ;;
    pull)
        for argument in "${names[@]:1}"; do arguments+=(--alias "$argument"); done
        pull_image "$name-$version" "$archive" "${names[0]}" "${arguments[@]}"
        return
        ;;
    build) ;;
    *) return 0 ;;
    esac
    for argument in "${names[@]}"; do arguments+=(--reference "$argument"); done
    arguments+=("$@")
    for argument in "$@"; do
        if [[ $argument == /*:/* ]]; then files+=("${argument%%:/*}"); fi
    done
    key=$(digest "$OCI_FORMAT" "${arguments[@]}" "$(stat -c '%n %s %.Y' "${files[@]}")")
    step "image-$name-$version" "$key" "$archive" oci_create "${arguments[@]}"
}
