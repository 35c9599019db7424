# Shared by the recipes. A recipe declares binaries and images; what a declaration does depends on MODE:
#   plan    notes which Go a build needs
#   build   makes what is missing or was made from another recipe
#   list    prints the images
#   archives, pull   what push and pull need
# A thing that was made has a stamp, a file with the text that it was made from; an equal stamp and an
# existing output mean that there is nothing to do.

CACHE=$(realpath -m "${BASALT_CACHE:-/var/cache/basalt}")
MODE=build
BUILT=0
FRESH=0

say() { echo "distribution: $*"; }
die() { echo "distribution: $*" >&2; exit 1; }

digest() { printf '%s\n' "$@" | sha256sum | cut -c1-64; }

# One of a kind of work at a time: a second build waits and then finds everything made. Whatever a build starts
# holds the lock too, so that nothing of a killed one still writes when the next begins. Sets TEMPORARY, which an
# interrupted run may have left full.
take_lock() {  # KIND
    TEMPORARY=$CACHE/tmp/$1
    mkdir -p "$CACHE"/{bin,images,log,stamps} "$TEMPORARY"
    exec 9>"$CACHE/$1.lock"
    if ! flock -n 9; then
        say "another $1 is using $CACHE; waiting for it"
        flock 9
    fi
    find "$TEMPORARY" -mindepth 1 -delete
}

# bound COMMAND...: a program that ends when this shell does, whatever kills the shell.
bound() { setpriv --pdeathsig KILL "$@"; }

is_fresh() {  # NAME KEY OUTPUT
    [[ -e $3 && -f $CACHE/stamps/$1 && $(<"$CACHE/stamps/$1") == "$2" ]]
}

# step NAME KEY OUTPUT COMMAND...: runs COMMAND with $OUT naming a temporary file, which becomes OUTPUT when
# COMMAND succeeds. An interrupted step leaves neither OUTPUT nor a stamp of the new recipe.
step() {
    local name=$1 key=$2 output=$3 log began=$SECONDS
    shift 3
    if is_fresh "$name" "$key" "$output"; then
        FRESH=$((FRESH + 1))
        return 0
    fi
    log=$CACHE/log/$name.log
    say "$name: building"
    rm -f "$CACHE/stamps/$name"
    OUT=$TEMPORARY/$name
    if ! "$@" >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        die "$name failed after $((SECONDS - began)) s; the whole log is $log"
    fi
    mkdir -p "$(dirname "$output")"
    mv -fT "$OUT" "$output"
    printf '%s\n' "$key" >"$TEMPORARY/stamp"
    mv -f "$TEMPORARY/stamp" "$CACHE/stamps/$name"
    BUILT=$((BUILT + 1))
    say "$name: built in $((SECONDS - began)) s (after $SECONDS s)"
}
