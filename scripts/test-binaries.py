#!/usr/bin/env python3
"""Runs test binaries, some of them at once, for tests mostly wait.

    scripts/test-binaries.py [--at-once N] CARGO TEST WORDS... [-- WORDS FOR EACH BINARY...]

Builds what the words select, as `cargo test` with the same words does, and runs every binary in its
crate's folder. What one of them says is shown in one piece once it ended, if it failed or left a test
out; a line says how it went. Ends with 1 if any failed, and names them. Whoever is waited for is named
every minute. N is 2 unless told.
"""

import json
import os
import queue
import re
import subprocess
import sys
import threading
import time

# Crates whose tests take long, the longest first.
LONG = {"turnkeep": 0, "turnkeep-stores": 1, "turnkeep-gateway": 2, "turnkeep-sim": 3}
RESULT = re.compile(r"^test result: \S+ (\d+) passed; (\d+) failed; (\d+) ignored", re.M)


def built(cargo):
    """Crate, target and file of each binary, those that take long first: at the end they would leave one
    of two cores without work."""
    run = subprocess.run(
        [*cargo, "--no-run", "--message-format=json-render-diagnostics"],
        stdout=subprocess.PIPE,
        check=False,
    )
    if run.returncode != 0:
        sys.exit(run.returncode)
    found = []
    for line in run.stdout.splitlines():
        one = json.loads(line)
        if one.get("executable") and one["profile"]["test"]:
            folder = os.path.dirname(one["manifest_path"])
            # A crate that is called as its folder is has no name of its own there.
            named = re.search(r"#([^#@]+)@", one["package_id"])
            crate = named.group(1) if named else os.path.basename(folder)
            found.append((crate, one["target"]["name"], folder, one["executable"]))
    return sorted(found, key=lambda one: (LONG.get(one[0], len(LONG)), one))


def play(todo, words, ended, running):
    """One after the other, until none is left."""
    while True:
        try:
            one = todo.get_nowait()
        except queue.Empty:
            return
        crate, name, folder, file = one
        begun = time.monotonic()
        running[one] = begun
        run = subprocess.run(
            [file, *words],
            cwd=folder,
            env={**os.environ, "CARGO_PKG_NAME": crate, "CARGO_MANIFEST_DIR": folder},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        del running[one]
        said = run.stdout.decode(errors="replace")
        title = f"{crate} {name}"
        ended.put((title, run.returncode, said, time.monotonic() - begun))


def tell(title, code, said, took):
    """A line for those that passed, everything for the others."""
    counts = RESULT.search(said)
    passed, failed, ignored = map(int, counts.groups()) if counts else (0, 0, 0)
    if code != 0 or counts is None or ignored:
        print(said, end="" if said.endswith("\n") else "\n")
    how = "ok" if code == 0 else f"FAILED with {code}"
    left = f", {ignored} ignored" if ignored else ""
    print(f"{how}: {title}: {passed} passed{left} in {took:.1f} s", flush=True)


def main():
    words = sys.argv[1:]
    at_once = 2
    if words[:1] == ["--at-once"]:
        at_once, words = int(words[1]), words[2:]
    cut = words.index("--") if "--" in words else len(words)
    binaries = built(words[:cut])
    if not binaries:
        sys.exit("no test binary is selected")
    todo, ended, running = queue.Queue(), queue.Queue(), {}
    for one in binaries:
        todo.put(one)
    for _ in range(at_once):
        lane = threading.Thread(target=play, args=(todo, words[cut + 1 :], ended, running))
        lane.daemon = True
        lane.start()
    failed = []
    left = len(binaries)
    while left:
        try:
            title, code, said, took = ended.get(timeout=60)
        except queue.Empty:
            waits = [f"{one[1]} ({time.monotonic() - at:.0f} s)" for one, at in list(running.items())]
            print(f"waiting for {', '.join(waits)}; {todo.qsize()} more to come", flush=True)
            continue
        left -= 1
        tell(title, code, said, took)
        if code != 0:
            failed.append(title)
    if failed:
        sys.exit(f"these fail: {', '.join(sorted(failed))}")
    print(f"all {len(binaries)} test binaries passed")


main()
