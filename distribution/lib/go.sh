# Programs from Go modules.

version_at_least() {  # FOUND WANTED
    [[ $(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1) == "$2" ]]
}

GO_WANTED=  # The highest version that a module to be built asks for, and that module.
GO_WANTED_BY=

# The module's own `go` line says what it needs.
want_go() {  # MODULE_DIRECTORY
    local wanted
    wanted=$(awk '$1 == "go" { print $2; exit }' "$1/go.mod")
    if [[ -n $GO_WANTED ]] && version_at_least "$GO_WANTED" "$wanted"; then return 0; fi
    GO_WANTED=$wanted
    GO_WANTED_BY=${1#"$DISTRIBUTION/"}
}

# Sets GO to one that builds everything that is wanted, or explains what to install.
need_go() {
    local found=none version
    if [[ -z $GO_WANTED ]]; then return 0; fi
    for GO in $(type -ap go) /usr/local/go/bin/go; do
        version=$(GOTOOLCHAIN=local "$GO" version 2>/dev/null | sed -n 's/^go version go\([0-9.]*\).*/\1/p')
        if [[ -z $version ]]; then continue; fi
        if version_at_least "$version" "$GO_WANTED"; then return 0; fi
        found=$version
    done
    die "Go $GO_WANTED or newer is needed to build $GO_WANTED_BY (found: $found).
Install it from https://go.dev/dl/ to /usr/local/go, or fetch what others built:
    distribution/build pull REGISTRY_HOST:PORT"
}

# build_with_go COMMAND...: what calls recipes. First it only learns which Go is needed: the last of them may be the
# one that needs the newest.
build_with_go() {
    MODE=plan
    "$@"
    need_go
    MODE=build
    "$@"
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
    export CGO_ENABLED=0 GOTOOLCHAIN=local GOWORK=off GOFLAGS=-mod=readonly
    # In place of this subshell: it is the shell's own end that counts.
    exec setpriv --pdeathsig KILL \
        "$GO" build -trimpath -buildvcs=false -tags "$4" -ldflags "-s -w $3" -o "$OUT" "$2"
)

# go_binary GROUP NAME MODULE PACKAGE [LDFLAGS [TAGS]]: CACHE/bin/GROUP/NAME from a package of the module
# whose go.mod is in distribution/MODULE.
go_binary() {
    local group=$1 name=$2 module=$DISTRIBUTION/$3 package=$4 ldflags=${5:-} tags=${6:-} key
    if [[ $MODE != build && $MODE != plan ]]; then return 0; fi
    module_digest "$module"
    key="go $package $MODULE_DIGEST ldflags: $ldflags tags: $tags"
    if [[ $MODE == plan ]]; then
        if ! is_fresh "$group-$name" "$key" "$CACHE/bin/$group/$name"; then want_go "$module"; fi
        return 0
    fi
    step "$group-$name" "$key" "$CACHE/bin/$group/$name" go_build "$module" "$package" "$ldflags" "$tags"
}

# A version that is not the one in go.mod would give a program that lies about itself.
require_version() {  # MODULE GO_MODULE VERSION
    if [[ $MODE == build ]] && ! grep -qE "^(require )?\s*$2 $3( |\$)" "$DISTRIBUTION/$1/go.mod"; then
        die "distribution/$1/go.mod does not require $2 $3 of versions.env; run: distribution/build modules $1"
    fi
}
