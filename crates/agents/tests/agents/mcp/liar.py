"""A server of tools that does whatever is asked of it, right or wrong.

Over its standard streams, or with --http over streamable HTTP; then it prints its port first. What it
was told is noted in the file NOTED, one message a line.
"""

import json
import os
import sys
import threading

TOOLS = {
    "echo": {"type": "object", "properties": {"text": {"type": "string"}}},
    "slow": {"type": "object", "properties": {"after": {"type": "string"}}},
    "fail": {},
    "refuse": {},
    "break": {},
    "shapeless": {},
    "nonsense": {},
    "huge": {},
    "binary": {},
    "wrong_id": {},
    "twice": {},
    "ask": {},
    "die": {},
    "hang": {},
    "change": {},
    "status": {"type": "object", "properties": {"code": {"type": "integer"}}},
}
LOCK = threading.Lock()
WAITING = {}
ASKED = []
FORGOTTEN = False


def text(words):
    return {"content": [{"type": "text", "text": words}]}


def raw(line):
    with LOCK:
        sys.stdout.buffer.write(line + b"\n")
        sys.stdout.buffer.flush()


def say(message):
    raw(json.dumps({"jsonrpc": "2.0", **message}).encode())


def note(message):
    with LOCK, open(os.environ["NOTED"], "a", encoding="utf-8") as noted:
        noted.write(json.dumps(message) + "\n")


def listed():
    return [
        {"name": name, "description": "does " + name, "inputSchema": schema}
        for name, schema in TOOLS.items()
    ]


def begin(message):
    offered = message["params"]["protocolVersion"]
    about = {"name": "liar", "version": "1"}
    return {"protocolVersion": offered, "capabilities": {"tools": {"listChanged": True}}, "serverInfo": about}


def discovered():
    """How a server begins that speaks only the newest version."""
    about = {"io.modelcontextprotocol/serverInfo": {"name": "modern liar", "version": "1"}}
    return {
        "resultType": "complete",
        "supportedVersions": ["2026-07-28"],
        "capabilities": {"tools": {}},
        "ttlMs": 0,
        "cacheScope": "private",
        "_meta": about,
    }


def pages(message):
    """Five tools at a time."""
    at = int(((message.get("params") or {}).get("cursor")) or 0)
    page = {"tools": listed()[at : at + 5]}
    if at + 5 < len(TOOLS):
        page["nextCursor"] = str(at + 5)
    return page


def call(number, name, arguments):
    if name == "echo":
        for waiting in WAITING.pop(arguments["text"], []):
            say({"id": waiting, "result": text("at last")})
        say({"id": number, "result": text(arguments["text"])})
    elif name == "slow":
        WAITING.setdefault(arguments["after"], []).append(number)
    elif name == "fail":
        say({"id": number, "result": {**text("no money left"), "isError": True}})
    elif name == "refuse":
        say({"id": number, "error": {"code": -32602, "message": "which order?"}})
    elif name == "break":
        say({"id": number, "error": {"code": -32603, "message": "oh"}})
    elif name == "shapeless":
        say({"id": number, "result": {"content": "words"}})
    elif name == "nonsense":
        raw(b'{"jsonrpc":"2.0","id":%d,"result":{"content":[}}' % number)
    elif name == "huge":
        with LOCK:
            out = sys.stdout.buffer
            out.write(b'{"jsonrpc":"2.0","result":{"content":[{"type":"text","text":"')
            for _ in range(100):
                out.write(b"x" * (1 << 20))
            out.write(b'"}]},"id":%d}\n' % number)
            out.flush()
    elif name == "binary":
        raw(b"\xff\xfe\x00\x01")
        image = {"type": "image", "data": "QUJD" * 1000, "mimeType": "image/png"}
        say({"id": number, "result": {"content": [image]}})
    elif name == "wrong_id":
        say({"id": 987654, "result": text("for somebody else")})
        say({"id": "seven", "result": text("for nobody")})
        say({"id": number, "result": text("right")})
    elif name == "twice":
        say({"id": number, "result": text("first")})
        say({"id": number, "result": text("second")})
    elif name == "ask":
        sampling = {"messages": [], "maxTokens": 1}
        say({"id": "a", "method": "sampling/createMessage", "params": sampling})
        asked = {"message": "your password?", "requestedSchema": {"type": "object", "properties": {}}}
        say({"id": "b", "method": "elicitation/create", "params": asked})
        say({"id": "c", "method": "roots/list"})
        say({"id": "d", "method": "something/else"})
        ASKED.append(number)
    elif name == "die":
        print("I can't go on", file=sys.stderr, flush=True)
        os._exit(9)
    elif name == "change":
        TOOLS["echo"] = {"type": "object", "properties": {"words": {"type": "string"}}}
        TOOLS.pop("refuse", None)
        say({"method": "notifications/tools/list_changed"})
        say({"id": number, "result": text("changed")})


def hear(message, answers):
    """What we asked in turn was answered."""
    answers[message["id"]] = message.get("error", {}).get("code") or message["result"]
    if len(answers) == 4 and ASKED:
        say({"id": ASKED.pop(), "result": text(json.dumps(answers, sort_keys=True))})


def over_streams():
    answers = {}
    if os.environ.get("CHILD"):
        # Holds the pipe that says who is still there.
        os.system("sleep 1000 &")
    for line in sys.stdin:
        message = json.loads(line)
        note(message)
        method, number = message.get("method"), message.get("id")
        if method is None:
            hear(message, answers)
        elif os.environ.get("MODERN") and method == "server/discover":
            say({"id": number, "result": discovered()})
        elif os.environ.get("MODERN") and method == "initialize":
            say({"id": number, "error": {"code": -32601, "message": "no such method"}})
        elif method == "initialize":
            say({"id": number, "result": begin(message)})
        elif method == "tools/list":
            say({"id": number, "result": pages(message)})
        elif method == "tools/call":
            call(number, message["params"]["name"], message["params"].get("arguments", {}))


def over_http():
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        def answer(self, status, body=b"", kind="application/json"):
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            self.answer(405)

        def do_DELETE(self):
            self.answer(405)

        def do_POST(self):
            message = json.loads(self.rfile.read(int(self.headers["content-length"])))
            note({**message, "authorization": self.headers["authorization"]})
            wanted = os.environ.get("TOKEN")
            if wanted and self.headers["authorization"] != f"Bearer {wanted}":
                return self.answer(401, b"", "text/plain")
            method, number = message.get("method"), message.get("id")
            if number is None:
                self.answer(202)
            elif method == "initialize":
                self.result(number, begin(message))
            elif method == "tools/list":
                self.result(number, pages(message))
            else:
                self.call(number, message["params"]["name"], message["params"].get("arguments", {}))

        def result(self, number, result):
            body = {"jsonrpc": "2.0", "id": number, "result": result}
            self.answer(200, json.dumps(body).encode())

        def call(self, number, name, arguments):
            if name == "echo":
                self.result(number, text(arguments["text"]))
            elif name == "status":
                self.answer(arguments["code"], b"{}")
            elif name == "shapeless":
                self.answer(200, b"<html>", "text/html")
            elif name == "huge":
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.end_headers()
                self.wfile.write(b'{"jsonrpc":"2.0","result":{"content":[{"type":"text","text":"')
                try:
                    for _ in range(100):
                        self.wfile.write(b"x" * (1 << 20))
                except OSError:
                    return
            elif name == "die":
                os._exit(9)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    over_http() if "--http" in sys.argv else over_streams()
