#!/usr/bin/env python3
"""How long the real terminal takes from a key to the screen, and to another session.

`turnkeep attach` runs in a terminal of this script's own (a pty of 120 columns and 40 rows) before a
server whose sessions all stream, a word every 20 ms each. What is measured is the time from the
write of a key to the read that holds what it puts on the screen: letters that are typed one by one;
the first switch to a session with a long history, each time by a new attach; and switches between two
such sessions that were seen before. At last, the most memory that one attach took.

Usage: scripts/measure-terminal.py [--keys 1000] [--sessions 50] [--messages 10000] [--first 10]
       [--switches 200]
"""

from __future__ import annotations

import argparse
import fcntl
import http.client
import json
import os
import pathlib
import pty
import random
import select
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
BINARY = os.environ.get("TURNKEEP", str(ROOT / "target/release/turnkeep"))
PATIENCE_S = 30
PAUSE_S = 0.02
# Nothing else on the screen has these letters.
LETTERS = "αβγδεζηθικλμνξοπρστυφχψωбгджзийлптфцчшщъыьэюя"
MARKS = ("αβγδ", "ξοπρ")
WORDS = "It reads `next` before it is **set**, so the loop never ends.\n\n```rust\nlet page = next;\n```\n\n".split(" ")
CONFIG = """\
listen = "127.0.0.1:0"
log_level = "warn"
[gateway]
rate_limiting_enabled = false
[agents.default]
kind = "openai"
model = "m"
base_url = "{url}/v1"
max_concurrency = 1000
[agents.echo]
kind = "echo"
"""


def provider() -> None:
    """Begins every answer and ends none, one word after the other; a process of its own."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(listener.getsockname()[1], flush=True)
    streams: list[tuple[socket.socket, int]] = []
    due = time.monotonic()
    while True:
        while select.select([listener], [], [], max(0.0, due - time.monotonic()))[0]:
            connection, _ = listener.accept()
            request = b""
            while b"\r\n\r\n" not in request:
                request += connection.recv(65536)
            head, body = request.split(b"\r\n\r\n", 1)
            lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            while len(body) < int(lengths[0].split(b":")[1]):
                body += connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
            streams.append((connection, random.randrange(len(WORDS))))
        due += PAUSE_S
        going = []
        for connection, at in streams:
            word = WORDS[at % len(WORDS)] + " "
            chunk = {"choices": [{"index": 0, "delta": {"content": word}}]}
            try:
                connection.sendall(b"data: " + json.dumps(chunk).encode() + b"\n\n")
                going.append((connection, at + 1))
            except OSError:
                connection.close()
        streams = going


class Terminal:
    """A pty with an attach in it, whose output is read all the time."""

    def __init__(self, env: dict[str, str], *flags: str) -> None:
        self.fd, inside = pty.openpty()
        fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self.process = subprocess.Popen(
            [BINARY, "attach", *flags], env=env, stdin=inside, stdout=inside, stderr=inside,
            preexec_fn=lambda: (os.setsid(), fcntl.ioctl(0, termios.TIOCSCTTY, 0)))
        os.close(inside)

    def type(self, keys: str) -> None:
        os.write(self.fd, keys.encode())

    def idle(self, seconds: float) -> None:
        """Reads on for a while."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if select.select([self.fd], [], [], left)[0]:
                os.read(self.fd, 1 << 16)

    def shows(self, text: str) -> float:
        """Waits until this is written; says when that was."""
        wanted, written = text.encode(), b""
        end = time.monotonic() + PATIENCE_S
        while (left := end - time.monotonic()) > 0:
            if select.select([self.fd], [], [], left)[0]:
                written = written[-(len(wanted) - 1):] + os.read(self.fd, 1 << 16)
                if wanted in written:
                    return time.monotonic()
        sys.exit(f"{text!r} never came: {written[-2000:]!r}")

    def takes(self, keys: str, text: str) -> float:
        """How many milliseconds it takes from these keys to this text."""
        began = time.monotonic()
        self.type(keys)
        return (self.shows(text) - began) * 1000

    def memory_mb(self) -> float:
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024

    def close(self) -> None:
        self.process.terminate()
        try:
            while self.process.poll() is None:
                self.idle(0.05)
        except OSError:
            self.process.wait()
        os.close(self.fd)


def call(address: str, path: str, body: dict, api: http.client.HTTPConnection | None = None) -> dict:
    connection = api or http.client.HTTPConnection(address)
    connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
    answer = connection.getresponse()
    text = answer.read()
    assert answer.status < 300, (path, answer.status, text)
    return json.loads(text or b"{}")


def fill(address: str, key: str, messages: int, mark: str) -> None:
    """A history of so many messages, half of them answers. The last one has the mark."""
    api = http.client.HTTPConnection(address)
    text = "## Step {}\n\nSome **text** with `code`:\n\n- one\n- two\n\n```rust\nfn main() {{\n    run();\n}}\n```\n"
    for number in range(messages // 2):
        last = number + 1 == messages // 2
        said = f"and {mark} is all" if last else text.format(number)
        call(address, "/v1/chat?wait=30", {"session": key, "message": said}, api)


def stands(took: list[float]) -> str:
    took.sort()
    p50, p99 = took[len(took) // 2], took[int(len(took) * 0.99)]
    return f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, slowest {took[-1]:.1f} ms"


def measure(address: str, env: dict[str, str], args: argparse.Namespace) -> None:
    def made(name: str, agent: str) -> str:
        return call(address, "/v1/switchboard", {"name": name, "agent_id": agent})["session"]

    # Alt-1 and Alt-2 go to the long ones.
    long = [made(f"long {mark}", "echo") for mark in "ab"]
    filling = [threading.Thread(target=fill, args=(address, key, args.messages, mark)) for key, mark in zip(long, MARKS)]
    for thread in filling:
        thread.start()
    for thread in filling:
        thread.join()
    for number in range(args.sessions):
        call(address, "/v1/chat", {"session": made(f"streams {number}", "default"), "message": "talk"})
    print(f"two sessions of {args.messages} messages; {args.sessions} stream", flush=True)

    first = []
    for _ in range(args.first):
        terminal = Terminal(env, "--session", "3")
        terminal.shows("connected")
        terminal.idle(1)
        first.append(terminal.takes("\x1b1", MARKS[0]))
        terminal.close()
    print(f"first switch to a long session, {len(first)}: {stands(first)}", flush=True)

    terminal = Terminal(env, "--session", "3")
    terminal.shows("connected")
    terminal.idle(1)
    keys = []
    while len(keys) < args.keys:
        for letter in LETTERS:
            terminal.idle(random.uniform(0.01, 0.05))
            keys.append(terminal.takes(letter, letter))
        terminal.type("\x15")
        terminal.idle(0.1)
    print(f"{len(keys)} keys: {stands(keys)}", flush=True)

    for number in (1, 2):
        terminal.takes(f"\x1b{number}", MARKS[number - 1])
        terminal.idle(0.5)
    switches = []
    while len(switches) < args.switches:
        for number in (1, 2):
            switches.append(terminal.takes(f"\x1b{number}", MARKS[number - 1]))
            terminal.idle(random.uniform(0.05, 0.15))
    print(f"{len(switches)} switches between two long sessions: {stands(switches)}")
    print(f"memory of attach at most (VmHWM): {terminal.memory_mb():.0f} MB")
    terminal.close()
    api = http.client.HTTPConnection(address)
    api.request("GET", "/v1/switchboard?limit=1000")
    states = [row["state"] for row in json.loads(api.getresponse().read())["sessions"]]
    assert states.count("processing") == args.sessions, f"not all of them streamed to the end: {states}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--keys", type=int, default=1000)
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument("--messages", type=int, default=10000)
    parser.add_argument("--first", type=int, default=10)
    parser.add_argument("--switches", type=int, default=200)
    parser.add_argument("--provider", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.provider:
        return provider()
    with tempfile.TemporaryDirectory() as folder:
        home = pathlib.Path(folder)
        streams = subprocess.Popen([sys.executable, __file__, "--provider"], stdout=subprocess.PIPE, text=True)
        url = f"http://127.0.0.1:{streams.stdout.readline().strip()}"
        (home / "c.toml").write_text(CONFIG.format(url=url))
        env = {"PATH": os.environ["PATH"], "HOME": folder, "XDG_RUNTIME_DIR": folder, "LANG": "C.UTF-8",
               "TERM": "xterm-256color", "TZ": "UTC", "TURNKEEP_CONFIG": str(home / "c.toml"),
               "TURNKEEP_DATA_DIR": str(home / "data")}
        server = subprocess.Popen([BINARY, "serve"], env=env, stdout=subprocess.PIPE, text=True)
        try:
            address = server.stdout.readline().split("http://")[1].strip()
            measure(address, env, args)
        finally:
            server.kill()
            streams.kill()


main()
