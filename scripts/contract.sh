#!/usr/bin/env bash
# Holds the real server against its own OpenAPI document: thousands of right and wrong requests with
# a key of each sort; no 5xx, no status and no shape that the document does not promise.
#
#   scripts/contract.sh [EXAMPLES]    for each address and key, 25 if not given
#
# Needs python3 with venv. Installs Schemathesis below target/, every file by its hash. Builds the
# server, unless TURNKEEP_BINARY names one.
set -euo pipefail
cd "$(dirname "$0")/.."

examples=${1:-25}
wanted=scripts/contract/requirements.txt
venv=target/contract
if ! cmp -s "$wanted" "$venv/installed.txt"; then
    echo "installing schemathesis into $venv"
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r "$wanted"
    cp "$wanted" "$venv/installed.txt"
fi
if [[ -z ${TURNKEEP_BINARY-} ]]; then
    "${CARGO:-cargo}" build --quiet --locked -p turnkeep
fi
exec "$venv/bin/python" scripts/contract/run.py "$examples"
