#!/usr/bin/env python3
"""How much Turnkeep adds to an answer on Signal.

People write to a release build behind the stand-in for signal-cli that the tests use: each a burst of
three messages again and again, each at moments of their own, while a cron job fires every second
beside them, for somebody else. What is measured for every burst is the time from its last message, as the stand-in was
told of it, to the reply's call of `send`, as the stand-in heard it, less the window (fixed here, one
second) and what the agent takes.

Usage: scripts/measure-signal.py [--people 50] [--seconds 60] [--delay-ms 200]
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import pathlib
import random
import signal
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).parents[1]
BINARY = ROOT / "target/release/turnkeep"
STAND_IN = ROOT / "crates/channels/tests/signal/daemon.py"
WINDOW_MS = 1000
BURST = 3
PAUSE_MS = 5000

CONFIG = """
listen = "127.0.0.1:0"

[signal]
number = "+4915100000000"
command = ["python3", "{stand_in}"]
unknown = "public"
receipts = true

[channels.signal]
window_mode = "fixed"
window_ms = {window}

[agents.default]
kind = "echo"
delay_ms = {delay}

[users.anna]
trust = "owner"
ids = ["signal:{clock}"]

[cron.every_second]
schedule = "* * * * * *"
zone = "UTC"
text = "a second has passed"
to = "anna"
"""


def number(person: int) -> str:
    return f"+49160{person:07d}"


def envelope(person: int, timestamp: int, text: str) -> dict:
    who = {"sourceNumber": number(person), "source": number(person), "sourceUuid": None,
           "sourceName": f"Person {person}", "sourceDevice": 1, "timestamp": timestamp}
    return {**who, "dataMessage": {"timestamp": timestamp, "message": text,
                                   "expiresInSeconds": 0, "viewOnce": False}}


def now_ms() -> float:
    return time.time() * 1000


def bursts(people: int, seconds: float) -> list[tuple[float, int, str]]:
    """When, who, what: three messages 20 to 120 ms apart, then a pause."""
    random.seed(7)
    plan = []
    for person in range(people):
        at, count = random.uniform(0, PAUSE_MS), 0
        while at < seconds * 1000:
            for part in range(BURST):
                plan.append((at, person, f"{person}/{count}/{part}"))
                at += random.uniform(20, 120)
            at += PAUSE_MS + random.uniform(0, 500)
            count += 1
    return sorted(plan)


def percentile(values: list[float], share: float) -> float:
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))]


def cpu_seconds(pid: int) -> float:
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def drive(home: pathlib.Path, plan: list[tuple[float, int, str]]) -> dict[str, float]:
    """Hands everything over at its time; says when the last message of each burst was."""
    last, began = {}, now_ms()
    with (home / "inject.jsonl").open("a", buffering=1) as inject:
        for number_, (at, person, text) in enumerate(plan):
            wait = began + at - now_ms()
            if wait > 0:
                time.sleep(wait / 1000)
            stamp = int(now_ms()) * 1000 + number_ % 1000
            inject.write(json.dumps({"envelope": envelope(person, stamp, text)}) + "\n")
            last[text.rsplit("/", 1)[0]] = now_ms()
    return last


def report(home: pathlib.Path, last: dict[str, float], delay_ms: float, cpu: float) -> None:
    replies, ticks, typing = {}, 0, collections.Counter()
    for line in (home / "sent.jsonl").read_text().splitlines():
        call = json.loads(line)
        params = call.get("params", {})
        if call["method"] == "sendTyping":
            typing["off" if params.get("stop") else "on"] += 1
        if call["method"] != "send":
            continue
        text = params["message"]
        if "second has passed" in text:
            ticks += 1
        if not text.startswith("echo: "):
            continue
        lines = text.removeprefix("echo: ").split("\n")
        replies[lines[-1]] = (call["timestamp"], len(lines))
    overhead, split = [], 0
    for burst, at in last.items():
        heard, lines = replies.get(f"{burst}/{BURST - 1}", (None, 0))
        split += lines != BURST
        if heard is not None:
            overhead.append(heard - at - WINDOW_MS - delay_ms)
    missing = len(last) - len(overhead)
    print(f"{len(last)} bursts of {BURST}; {missing} unanswered, {split} not answered as one")
    print(f"overhead p50 {percentile(overhead, 0.5):.1f} ms, p99 {percentile(overhead, 0.99):.1f} ms, "
          f"worst {max(overhead):.1f} ms")
    print(f"cron: {ticks} ticks told; typing shown {typing['on']}, hidden {typing['off']}")
    print(f"server CPU {1000 * cpu / max(1, len(last)):.2f} ms a turn")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--delay-ms", type=int, default=200)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = pathlib.Path(folder)
        config = home / "turnkeep.toml"
        config.write_text(CONFIG.format(stand_in=STAND_IN, window=WINDOW_MS,
                                        delay=asked.delay_ms, clock=number(9_999_999)))
        (home / "inject.jsonl").touch()
        server = subprocess.Popen(
            [BINARY, "serve", "--config", config, "--data-dir", home / "data"],
            env={**os.environ, "SIGNAL_STANDIN_DIR": str(home)},
            stdout=subprocess.PIPE, stderr=(home / "log").open("w"), text=True)
        try:
            first = server.stdout.readline()
            if "listening" not in first:
                raise SystemExit((home / "log").read_text() or "the server did not start")
            before = cpu_seconds(server.pid)
            last = drive(home, bursts(asked.people, asked.seconds))
            time.sleep(WINDOW_MS / 1000 + asked.delay_ms / 1000 + 2)
            report(home, last, asked.delay_ms, cpu_seconds(server.pid) - before)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(timeout=30)


if __name__ == "__main__":
    main()
