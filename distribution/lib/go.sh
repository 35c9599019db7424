# Programs from Go modules.

version_at_least() {  # FOUND WANTED
    [[ $(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1) == "$2" ]]
}

# Sets GO, or explains what to install. The module's own `go` line says what it needs.
need_go() {  # MODULE_DIRECTORY
    local wanted found=none version
    wanted=$(awk '$1 == "go" { print $2; exit }' "$1/go.mod")
    for GO in $(type -ap go) /usr/local/go/bin/go; do
        version=$(GOTOOLCHAIN=local "$GO" version 2>/dev/null | sed -n 's/^go version go\([0-9.]*\).*/\1/p')
        if [[ -z $version ]]; then continue; fi
        if version_at_least "$version" "$wanted"; then return 0; fi
        found=$version
    done
    die "Go $wanted or newer is needed to build ${1#"$DISTRIBUTION/"} (found: $found).
Install it from https://go.dev/dl/ to /usr/local/go, or fetch what others built:
    distribution/build pull REGISTRY_HOST:PORT"
}

declare -A MODULE_DIGESTS

# The digest is left in MODULE_DIGEST: a command substitution would lose the cache.
module_digest() {  # MODULE_DIRECTORY
    if [[ -z ${MODULE_DIGESTS[$1]:-} ]]; then
        MODULE_DIGESTS[$1]=$(cat "$1/go.mod" "$1/go.sum" | sha256sum | cut -c1-64)
    fi
    MODULE_DIGEST=${MODULE_DIGESTS[$1]}
}

go_build() (  # MODULE_DIRECTORY PACKAGE LDFLAGS TAGS
    cd "$1" || exit
    CGO_ENABLED=0 GOTOOLCHAIN=local GOWORK=off GOFLAGS=-mod=readonly \
        "$GO" build -trimpath -buildvcs=false -tags "$4" -ldflags "-s -w $3" -o "$OUT" "$2"
)

# go_binary GROUP NAME MODULE PACKAGE [LDFLAGS [TAGS]]: CACHE/bin/GROUP/NAME from a package of the module
# whose go.mod is in distribution/MODULE.
go_binary() {
    local group=$1 name=$2 module=$DISTRIBUTION/$3 package=$4 ldflags=${5:-} tags=${6:-} key
    if [[ $MODE != build ]]; then return 0; fi
    module_digest "$module"
    key="go $package $MODULE_DIGEST ldflags: $ldflags tags: $tags"
    if ! is_fresh "$group-$name" "$key" "$CACHE/bin/$group/$name"; then need_go "$module"; fi
    step "$group-$name" "$key" "$CACHE/bin/$group/$name" go_build "$module" "$package" "$ldflags" "$tags"
}

# A version that is not the one in go.mod would give a program that lies about itself.
require_version() {  # MODULE GO_MODULE VERSION
    if [[ $MODE == build ]] && ! grep -qE "^(require )?\s*$2 $3( |\$)" "$DISTRIBUTION/$1/go.mod"; then
        die "distribution/$1/go.mod does not require $2 $3 of versions.env; run: distribution/build modules $1"
    fi
}
