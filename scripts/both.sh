#!/usr/bin/env bash
# The tests of the real binary once more, with PostgreSQL in the place of the file: every test binary
# of crates/turnkeep, but for what crates/turnkeep/tests/store_kit/left_out.txt names with its reason.
#
#   scripts/both.sh [CARGO TEST WORDS...]    `cargo test --locked --workspace` if none are given
#
# BINARIES chooses some of the binaries, by name. Each starts a PostgreSQL server of its own, in which
# every data folder has a schema. Needs python3.
set -euo pipefail
cd "$(dirname "$0")/.."

list=crates/turnkeep/tests/store_kit/left_out.txt
test=("$@")
if [ $# -eq 0 ]; then
    test=("${CARGO:-cargo}" test --locked --workspace)
fi

# Every target: the file NAME.rs, or a folder NAME with a main.rs.
targets() {
    find crates/turnkeep/tests -maxdepth 2 \( -path '*/tests/*/main.rs' -o -path '*/tests/*.rs' \) |
        sed -nE 's,^crates/turnkeep/tests/([a-z_]+)(/main)?\.rs$,\1,p' | sort
}

# Name and file of what was built; another crate may have a binary of that name, too.
built() {
    "${test[@]}" --no-run --message-format=json "${chosen[@]/#/--test=}" | python3 -c '
import json, sys
for line in sys.stdin:
    one = json.loads(line)
    ours = one.get("manifest_path", "").endswith("/crates/turnkeep/Cargo.toml")
    if ours and one.get("executable") and one["target"]["kind"] == ["test"]:
        print(one["target"]["name"], one["executable"])'
}

chosen=()
for name in ${BINARIES:-$(targets)}; do
    why=$(sed -n "s/^$name \* //p" "$list")
    if [ -n "$why" ]; then
        echo "left out: all of $name: $why"
    else
        chosen+=("$name")
    fi
done
if [ ${#chosen[@]} -eq 0 ]; then
    echo "no binary is left to run" >&2
    exit 1
fi
# Into a word of its own, so that what can't be built ends this.
found=$(built)
declare -A files
while read -r name file; do
    files[$name]=$file
done <<<"$found"

export TURNKEEP_TEST_STORE=postgres
# Whoever is not told a data folder's schema finds no database, and no file either.
export TURNKEEP_STORE_KIND=postgres TURNKEEP_STORE_URL_ENV=NO_DATABASE
export NO_DATABASE=postgres://nobody@%2Fnowhere/nothing
said=$(mktemp -d)
trap 'rm -rf "$said"' EXIT

# What a binary says stands in one piece, once it ended.
play() {
    local name=$1 there left why skip=() begun=$SECONDS
    there=$("${files[$name]}" --list) || echo "$name does not start" >"$said/$name.failed"
    while read -r left why; do
        if ! grep -qxF "$left: test" <<<"$there"; then
            echo "$list: $name has no test $left" >"$said/$name.failed"
            break
        fi
        echo "left out: $name $left: $why"
        skip+=(--skip "$left")
    done < <(sed -n "s/^$name //p" "../../$list") >"$said/$name"
    "${files[$name]}" --quiet --exact "${skip[@]}" >>"$said/$name" 2>&1 ||
        echo "$name fails" >>"$said/$name.failed"
    cat "$said/$name"
    echo "with PostgreSQL: $name: $((SECONDS - begun)) s"
}

cd crates/turnkeep
for name in "${chosen[@]}"; do
    if [ -z "${files[$name]-}" ]; then
        echo "$name was not built" >&2
        exit 1
    fi
    # Tests mostly wait, so two binaries play at once.
    while [ "$(jobs -rp | wc -l)" -ge 2 ]; do
        wait -n || true
    done
    play "$name" &
done
wait
if compgen -G "$said/*.failed" >/dev/null; then
    echo "with PostgreSQL these fail:" >&2
    cat "$said"/*.failed >&2
    exit 1
fi
