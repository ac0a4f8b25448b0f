#!/usr/bin/env bash
# Builds the Hatchet engine that the cluster's tests run, of one pinned version, below
# target/tools/hatchet/VERSION: hatchet-migrate, hatchet-admin and hatchet-engine. Does nothing where
# they stand. PostgreSQL and Redis come from scripts/setup.sh. Needs Go 1.26 or newer, from the
# machine (a 1.21 or newer fetches what it lacks from the module proxy), and a few minutes.
#
#   scripts/cluster-setup.sh          installs
#   scripts/cluster-setup.sh check    says which version stands there, too
set -euo pipefail
cd "$(dirname "$0")/.."

version=0.104.7
go=1.26.0
module=github.com/hatchet-dev/hatchet
# What the Go checksum database says of this version; its own go.sum pins everything below it.
sum='h1:QCW4BobdfXANNTYlqyAtlkCoJhKXNGxQVEOWYy17a+Q='
tools=$PWD/target/tools/hatchet/$version
stamp="$version $sum"

scripts/setup.sh

stands() {
    [ "$(cat "$tools/.version" 2>/dev/null)" = "$stamp" ]
}

build() {
    local have fetched dir
    if ! have=$(go env GOVERSION 2>/dev/null); then
        echo "the cluster's tests need Go $go or newer to build the Hatchet engine $version, and" \
            "there is no \`go\` here: install it (https://go.dev/dl/) and try again" >&2
        exit 1
    fi
    have=${have#go}
    if [ "$(printf '%s\n' "$go" "$have" | sort -V | head -n 1)" != "$go" ]; then
        # One that is not too old fetches a newer one of itself.
        export GOTOOLCHAIN=go$go
        if ! go version >/dev/null 2>&1; then
            echo "the cluster's tests need Go $go or newer to build the Hatchet engine $version;" \
                "this machine has $have, which can't fetch a newer one" >&2
            exit 1
        fi
    fi
    echo "building the Hatchet engine $version into $tools" >&2
    mkdir -p "$tools"
    # Not `go install PATH@VERSION`: that one also asks for the list of all versions, which not every
    # module proxy gives. Built in the module's own folder, its go.sum rules.
    fetched=$(cd "$tools" && go mod download -json "$module@v$version")
    if [ "$(sed -n 's/.*"Sum": "\(.*\)".*/\1/p' <<<"$fetched")" != "$sum" ]; then
        echo "the Hatchet engine $version has another checksum than $sum" >&2
        exit 1
    fi
    dir=$(sed -n 's/.*"Dir": "\(.*\)".*/\1/p' <<<"$fetched")
    for command in hatchet-migrate hatchet-admin hatchet-engine; do
        (cd "$dir" && CGO_ENABLED=0 go build -mod=readonly -trimpath \
            -ldflags "-s -w -X main.Version=v$version" -o "$tools/$command" "./cmd/$command")
    done
    echo "$stamp" >"$tools/.version"
}

if ! stands; then
    mkdir -p "$tools"
    # Two who come at once: the second one waits, and finds everything there.
    exec 9>"$tools.lock"
    flock 9
    stands || build
fi

if [ "${1:-}" = check ]; then
    "$tools/hatchet-engine" --version
fi
