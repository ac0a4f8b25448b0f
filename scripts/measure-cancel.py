#!/usr/bin/env python3
"""How long after a stop the provider's connection is closed.

A server of this script's own plays the provider: it begins an answer and never ends it. A turn is
begun, and stopped as soon as its answer streams; what is measured is the time from the first byte of
the stop's request to the end of the provider's connection, both seen here. `--beside N` other
sessions stream at the same time, a word every 20 ms each.

Usage: scripts/measure-cancel.py [--stops 200] [--beside 0] [--kind openai|anthropic|http]
"""

from __future__ import annotations

import argparse
import http.client
import json
import pathlib
import select
import socket
import subprocess
import tempfile
import threading
import time
import urllib.parse

BINARY = pathlib.Path(__file__).parents[1] / "target/release/turnkeep"
SECRET = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
BEGINS = {
    "openai": [],
    "anthropic": [{"type": "message_start", "message": {"usage": {"input_tokens": 1, "output_tokens": 1}}},
                  {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}],
    "http": [],
}
WORDS = {
    "openai": {"choices": [{"index": 0, "delta": {"content": "word "}}]},
    "anthropic": {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "word "}},
    "http": {"type": "say", "text": "word "},
}
AGENTS = {
    "openai": 'kind = "openai"\nmodel = "m"\nbase_url = "{url}/v1"\nmax_concurrency = 1000\n',
    "anthropic": 'kind = "anthropic"\nmodel = "m"\nbase_url = "{url}"\napi_key_file = "{dir}/key"\nmax_concurrency = 1000\n',
    "http": 'kind = "http"\nurl = "{url}/brain"\nsecret_file = "{dir}/secret"\n',
}


def event(fields: dict) -> bytes:
    return f"event: {fields.get('type', 'message')}\ndata: {json.dumps(fields)}\n\n".encode()


class Provider:
    """Begins every answer and ends none; tells when a watched one's connection is closed."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.begun = threading.Semaphore(0)
        self.closed: list[float] = []
        self.ended = threading.Semaphore(0)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(65536)
        head, body = head.split(b"\r\n\r\n", 1)
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
        while len(body) < length:
            body += connection.recv(65536)
        if self.kind == "http" and json.loads(body).get("type") not in (None, "turn"):
            connection.sendall(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")
            return connection.close()
        watched = b"stop me" in body
        connection.sendall(HEAD + b"".join(event(fields) for fields in BEGINS[self.kind]))
        word = event(WORDS[self.kind])
        connection.sendall(word)
        if watched:
            self.begun.release()
        try:
            while not select.select([connection], [], [], None if watched else 0.02)[0]:
                connection.sendall(word)
            connection.recv(1)
        except OSError:
            pass
        if watched:
            self.closed.append(time.monotonic())
            self.ended.release()
        connection.close()


def post(connection: http.client.HTTPConnection, path: str, fields: dict) -> dict:
    connection.request("POST", path, json.dumps(fields), {"content-type": "application/json"})
    answer = connection.getresponse()
    text = answer.read()
    assert answer.status < 300, (path, answer.status, text)
    return json.loads(text or b"{}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--stops", type=int, default=200)
    parser.add_argument("--beside", type=int, default=0)
    parser.add_argument("--kind", choices=AGENTS, default="openai")
    args = parser.parse_args()
    provider = Provider(args.kind)
    with tempfile.TemporaryDirectory() as folder:
        home = pathlib.Path(folder)
        for name, text in [("key", "sk-none"), ("secret", SECRET)]:
            (home / name).write_text(text)
            (home / name).chmod(0o600)
        agent = AGENTS[args.kind].format(url=provider.url, dir=folder)
        (home / "c.toml").write_text(f'log_level = "warn"\n[gateway]\nrate_limiting_enabled = false\n[agents.default]\n{agent}')
        server = subprocess.Popen([BINARY, "serve", "--config", home / "c.toml", "--data-dir", home / "data",
                                   "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True)
        try:
            address = server.stdout.readline().split("http://")[1].strip()
            measure(http.client.HTTPConnection(address), provider, args)
        finally:
            server.kill()


def measure(api: http.client.HTTPConnection, provider: Provider, args: argparse.Namespace) -> None:
    for number in range(args.beside):
        post(api, "/v1/chat", {"customer_id": f"beside-{number}", "message": "talk"})
    took = []
    for number in range(args.stops):
        session = post(api, "/v1/chat", {"customer_id": f"c{number}", "message": "stop me"})["session"]
        assert provider.begun.acquire(timeout=30), "the provider was not asked"
        path = f"/v1/sessions/{urllib.parse.quote(session, safe='')}/stop"
        began = time.monotonic()
        post(api, path, {})
        assert provider.ended.acquire(timeout=30), "the connection stayed open"
        took.append((provider.closed[-1] - began) * 1000)
    took.sort()
    p50, p99 = took[len(took) // 2], took[int(len(took) * 0.99)]
    print(f"{args.kind}, {args.beside} others streaming, {args.stops} stops: "
          f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, slowest {took[-1]:.1f} ms")


main()
