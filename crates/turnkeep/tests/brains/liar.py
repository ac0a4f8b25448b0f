"""Breaks every rule of the contract, for the test of `turnkeep brain check`.

As a process all but the first, and that one with the argument `mute`; as a server with a port. It
lets nobody wait, but lies at once, however slow the machine is. With `sly` it keeps every rule that
can be seen and pays whatever it is told, with `deaf` it goes on behind a commit point that was refused.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

unread = b""


def hear(seconds: float) -> dict[str, Any] | None:
    """The next line, if one comes in time."""
    global unread
    until = time.monotonic() + seconds
    while b"\n" not in unread:
        if not select.select([0], [], [], max(0, until - time.monotonic()))[0]:
            return None
        more = os.read(0, 65536)
        if not more:
            return None
        unread += more
    line, unread = unread.split(b"\n", 1)
    said: dict[str, Any] = json.loads(line)
    return said


def say(kind: str, **fields: Any) -> None:
    print(json.dumps({"type": kind, **fields}), flush=True)


def finish(reply: str, **fields: Any) -> None:
    say("finished", reply=reply, **fields)
    # Neither the end of its input nor that of its turn is any to it.
    time.sleep(1000)


def act(turn: dict[str, Any]) -> None:
    key = "another" if turn["recorded"] else "one"
    for asked in range(6):
        say("intend", id=str(asked), tool="pay", key=key)
        answer = hear(10)
        while answer and answer["type"] == "mail_waiting":
            answer = hear(10)
        if answer and answer["type"] == "refused" and not turn["recorded"]:
            say("returned", id="r", call=7, outcome="done")
        if answer and answer["type"] == "known":
            say("intend", id="other", tool="pay", key="two")
            hear(10)
        if not answer or answer["type"] != "mail_first":
            break
    else:
        say("take_mail", id="late")
        hear(10)
    finish("paid")


def answered() -> dict[str, Any]:
    said = hear(10) or {}
    while said and "id" not in said:
        said = hear(10) or {}
    return said


def pay() -> None:
    turn = hear(10)
    if turn and turn["messages"][0]["text"] == "act" and not turn["recorded"]:
        if "deaf" in sys.argv:
            say("commit_point", id="c")
            answered()
        say("intend", id="i", tool="pay", key="one")
        answer = answered()
        with open("paid.txt", "a", encoding="utf-8") as paid:
            paid.write(str(answer.get("type")) + "\n")
        if answer.get("type") == "call":
            say("returned", id="r", call=answer["call"], outcome="done")
            answered()
    if turn:
        say("finished", reply="It is paid.")


def alone(word: str) -> None:
    """Says what the others were asked, too."""
    with open("words", "a", encoding="utf-8") as words:
        words.write(word + "\n")
    for _ in range(100):
        with open("words", encoding="utf-8") as words:
            all_words = words.read()
        if all_words.count("\n") > 1:
            break
        time.sleep(0.02)
    finish(all_words)


def process() -> None:
    try:
        turn = hear(10) or {}
    except ValueError:
        finish("whatever it was")
    text = turn["messages"][0]["text"]
    if text == "act":
        act(turn)
    if "x_later" in turn:
        say("failed", error="what is x_later?")
        time.sleep(1000)
    if turn["attempt"] > 1:
        say("failed", error="I did that already", retry=False)
    if "Its name is " in text:
        alone(text.split("Its name is ")[1])
    # Long enough for what comes right behind the turn.
    news = hear(5) or {"type": "nothing"}
    if news["type"] == "mail_waiting":
        say("take_mail", id="1")
        hear(10)
        finish("hm", used=999)
    if news["type"] == "question":
        say("choose", question_id=news["question_id"] + 1, choice="queue")
    if news["type"] == "finish_now":
        say("failed", error="not yet")
        time.sleep(1000)
    finish("hello")


class Server(BaseHTTPRequestHandler):
    """Believes everybody, has every turn, and counts 1, 7, 8."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            posted = json.loads(body)
        except ValueError:
            posted = {}
        if posted.get("type") in ("told", "cancelled"):
            self.send_response(500)
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        self.event(1 if posted.get("type") == "turn" else 3, type="say", text="")
        if "x_later" in posted:
            self.event(7, type="failed", error="what is x_later?")
        self.event(7, type="finished", reply="hello")
        self.event(8, type="say", text="and goodbye")

    def event(self, number: int, **said: Any) -> None:
        try:
            self.wfile.write(f"id: {number}\ndata: {json.dumps(said)}\n\n".encode())
        except OSError:
            pass  # Who has heard enough leaves.

    def log_message(self, *_: Any) -> None:
        pass


def serve(port: int) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", port), Server)
    print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    if "mute" in sys.argv:
        sys.exit("I have nothing to say")
    if "sly" in sys.argv or "deaf" in sys.argv:
        sys.exit(pay())
    if len(sys.argv) > 1:
        serve(int(sys.argv[1]))
    process()
