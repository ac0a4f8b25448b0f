#!/usr/bin/env bash
# A compiler for tests, between cargo and rustc: has the edges counted of those crates whose own tests
# throw bytes at their readers, so that the fuzzer sees what an input reached. Only as these tests are
# built: what they link to, and everything else, stays as it is and is built once for all tests.
set -euo pipefail
counted=false
case " $* " in
*" --test "*turnkeep_fuzz=*)
    case " $* " in
    */src/lib.rs\ * | */src/main.rs\ * | */tests/planted.rs\ *) counted=true ;;
    esac
    ;;
esac
if ! $counted; then
    exec "$@"
fi
exec "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=3 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
