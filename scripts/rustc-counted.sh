#!/usr/bin/env bash
# A compiler for `make fuzz`, between cargo and rustc: has the edges of our own crates counted, so
# that the fuzzer sees what an input reached. Not those of the fuzzer itself, which would find its
# own steps interesting, and not those of other people's crates, which need not be built again.
set -euo pipefail
case " $* " in
*" --crate-name turnkeep_fuzz "* | *" --crate-name build_script_build "*) exec "$@" ;;
esac
exec "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=3 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
