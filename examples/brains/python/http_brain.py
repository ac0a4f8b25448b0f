"""A brain of Turnkeep as a server: many turns at once, each in a thread of its own.

Copy this file beside brain.py. What it does on the wire is in docs/brains.md, "Over HTTP". The
secret that signs stands in BRAIN_SECRET, `whsec_` and base64; several with blanks between them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import socket
import sys
import threading
import time
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from brain import Answer, Decide, Gone, Turn, finished

# How far a timestamp may be away, and how long the names of POSTs and of turns are kept.
STALE_S = 300
KEPT_S = 600
# How long a turn without a connection is kept.
RESUMED_S = 30
BODY_BYTES_MAX = 64 << 20


class Attempt:
    """One attempt of a turn, and everything that it said."""

    def __init__(self, facts: dict[str, Any], decide: Decide) -> None:
        self.number: int = facts["attempt"]
        self.turn = Turn(facts, self._tell, decide)
        self.over_at: float | None = None
        self._events: list[bytes] = []
        self._finished = False
        self._heard = 0  # The number of the last that it was told.
        self._stream: socket.socket | None = None
        self._resting: threading.Timer | None = None
        self._hearing = threading.Lock()
        self._saying = threading.RLock()

    def work(self, answer: Answer) -> None:
        try:
            self._tell(finished(answer(self.turn)))
        except Gone:
            pass  # What it says goes nowhere, and it can't act: nobody answers its `intend`.
        except Exception as error:
            traceback.print_exc()
            self._tell({"type": "failed", "error": str(error) or type(error).__name__})

    def stream(self, connection: socket.socket, behind: int) -> bool:
        """Says everything from behind this event on. Whether the connection serves for more."""
        with self._saying:
            if self._resting:
                self._resting.cancel()
            self._close()
            self._stream = connection
            self._write(b"".join(self._events[behind:]))
        try:
            # Nothing is said here before the stream is over; then it is the next request.
            more = connection.recv(1, socket.MSG_PEEK)
        except OSError:
            more = b""
        with self._saying:
            if self._stream in (connection, None):
                self._stream = None
                self._resting = threading.Timer(RESUMED_S, self.leave)
                self._resting.daemon = True
                self._resting.start()
            return bool(more) and self._finished

    def hear(self, first: int, objects: list[dict[str, Any]]) -> None:
        with self._hearing:
            for number, said in enumerate(objects, first):
                if number > self._heard:
                    self._heard = number
                    self.turn.hear(said)

    def leave(self) -> None:
        """Ends the work; nothing is kept of it."""
        with self._saying:
            self.over_at = self.over_at or time.monotonic()
            self._events.clear()
            self._close()
        self.turn.leave()

    def _tell(self, said: dict[str, Any]) -> None:
        with self._saying:
            if self.over_at or self._finished:
                return
            self._finished = said["type"] in ("finished", "failed")
            event = f"id: {len(self._events) + 1}\ndata: {json.dumps(said)}\n\n".encode()
            self._events.append(event)
            self._write(event)

    def _write(self, events: bytes) -> None:
        if not self._stream:
            return
        chunk = b"%x\r\n%b\r\n" % (len(events), events) if events else b""
        try:
            self._stream.sendall(chunk + b"0\r\n\r\n" if self._finished else chunk)
        except OSError:
            self._close()  # It may be resumed.
        if self._finished:
            self._stream = None

    def _close(self) -> None:
        """Wakes whoever waits for the connection's end."""
        if self._stream:
            try:
                self._stream.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, answer: Answer, decide: Decide, port: int, keys: list[bytes]) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.keys = keys
        self._answer = answer
        self._decide = decide
        self._attempts: dict[str, Attempt] = {}
        self._names: dict[str, float] = {}
        self._forgot_at = time.monotonic()
        self._lock = threading.Lock()

    def is_new(self, name: str) -> bool:
        """Whether nobody posted this before: what asks for a stream comes once."""
        with self._lock:
            self._forget()
            new = name not in self._names
            self._names[name] = time.monotonic()
        return new

    def begin(self, facts: dict[str, Any]) -> Attempt | None:
        """Begins an attempt; none if it is known already, or a newer one."""
        attempt = Attempt(facts, self._decide)
        with self._lock:
            known = self._attempts.get(facts["turn_id"])
            if known and attempt.number <= known.number:
                return None
            self._attempts[facts["turn_id"]] = attempt
        if known:
            known.leave()
        threading.Thread(target=attempt.work, args=[self._answer], daemon=True).start()
        return attempt

    def find(self, posted: dict[str, Any]) -> Attempt | None:
        with self._lock:
            known = self._attempts.get(posted["turn_id"])
        current = known and known.number == posted["attempt"] and not known.over_at
        return known if current else None

    def _forget(self) -> None:
        """Now and then: everything that is remembered is looked at."""
        now = time.monotonic()
        if now < self._forgot_at + KEPT_S / 10:
            return
        self._forgot_at = now
        old = now - KEPT_S
        self._names = {name: at for name, at in self._names.items() if at > old}
        # Numbers are remembered, so that no older attempt can follow.
        for turn, attempt in list(self._attempts.items()):
            if attempt.over_at and attempt.over_at < old:
                del self._attempts[turn]

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # Who has gone is no fault of ours.
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        length = self.headers.get("content-length", "")
        if not length.isdigit() or int(length) > BODY_BYTES_MAX:
            self.close_connection = True  # What it holds is not read.
            return self._status(413)
        body = self.rfile.read(int(length))
        if not self._is_signed(body):
            return self._status(401)
        try:
            self._take(json.loads(body))
        except (ValueError, KeyError, TypeError):
            self._status(400)  # It is not what it should be.

    def _take(self, posted: dict[str, Any]) -> None:
        kind, known = posted["type"], self.server.find(posted)
        if kind in ("turn", "resume") and not self.server.is_new(self.headers["webhook-id"]):
            return self._status(409)
        if kind == "turn":
            attempt = self.server.begin(posted)
            return self._stream(attempt, 0) if attempt else self._status(409)
        if kind not in ("told", "resume", "cancelled"):
            return self._status(400)
        if not known:
            return self._status(404)
        if kind == "resume":
            return self._stream(known, int(posted["last_event_id"]))
        if kind == "told":
            known.hear(posted["first"], posted["objects"])
        else:
            known.leave()
        self._status(204)

    def _status(self, status: int) -> None:
        self.send_response(status)
        if status != 204:
            self.send_header("content-length", "0")
        self.end_headers()

    def _stream(self, attempt: Attempt, behind: int) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("cache-control", "no-store")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        self.close_connection = not attempt.stream(self.connection, behind)

    def _is_signed(self, body: bytes) -> bool:
        name, at, given = (self.headers.get(f"webhook-{part}", "")
                           for part in ("id", "timestamp", "signature"))
        if not at.isdigit() or abs(time.time() - int(at)) > STALE_S:
            return False
        content = f"{name}.{at}.".encode() + body
        for key in self.server.keys:
            digest = hmac.new(key, content, hashlib.sha256).digest()
            fits = "v1," + base64.b64encode(digest).decode()
            if any(hmac.compare_digest(fits, one) for one in given.split() if one.isascii()):
                return True
        return False

    def log_message(self, format: str, *args: Any) -> None:
        """Whoever wants a log of requests has a proxy."""


def serve(answer: Answer, decide: Decide, port: int) -> None:
    secrets = os.environ.get("BRAIN_SECRET", "").split()
    if not secrets:
        sys.exit("BRAIN_SECRET holds the secret that signs, whsec_…")
    keys = [base64.b64decode(secret.removeprefix("whsec_")) for secret in secrets]
    with Server(answer, decide, port, keys) as server:
        print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()
