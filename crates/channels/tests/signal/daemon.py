#!/usr/bin/env python3
"""A stand-in for signal-cli: the same arguments, the same JSON-RPC, no Signal.

    daemon.py [--config DIR] [--output json] [-a NUMBER] COMMAND
      jsonRpc [--receive-mode MODE]         calls on stdin, answers and envelopes on stdout
      daemon --socket PATH | --tcp HOST:PORT | --http HOST:PORT [--receive-mode MODE]
      link -n NAME                          prints an address, then "Associated with: NUMBER"
      listAccounts | listGroups | listIdentities | trust | version     (also: --version)

A test steers it through the directory that SIGNAL_STANDIN_DIR names:

  groups.json     what listGroups answers; without the file there are none
  accounts        numbers it is linked to, one a line; without the file it is +4915100000000
  inject.jsonl    appended by the test, one thing to hear a line:
                  {"account": NUMBER, "envelope": {..}, "exception"?: {..}, "files"?: {ID: BASE64}}
                  {"account": NUMBER, "raw": TEXT}   written as it stands, with no end of line added
                  {"account": NUMBER, "bytes": BASE64}  the same for what is no UTF-8
                  {"log": TEXT}   a line on its standard error
                  "account" may be left out: the first account. "files" are attachments.
  inject.at       kept by it: how much of inject.jsonl was handed over. As with signal-cli, what was
                  written to a client that subscribed is gone, and it is written before it is marked.
  sent.jsonl      appended by it: every call, {"method", "params", "id", "pid", "via", "timestamp"?}
  starts.jsonl    appended by it: every start, {"pid", "args"}; for "daemon" with the "port" or "path"
                  it listens on (port 0 takes a free one)
  faults.json     {"faults": [RULE, ..]}, read anew at every call; the first rule that fits is used:
                  {"name": unique, "method": "send", "params"?: {must be equal}, "times"?: N, "do": ..}
                    "lose"        the call is done, nobody is told
                    "refuse"      {"code", "message", "data"?}: an error, nothing is done
                    "result"      {"result": ..}: this answer
                    "fail"        {"type", "retryAfterSeconds"?, "token"?}: as signal-cli answers if every
                                  recipient failed that way
                    "partly"      the same for the first recipient only, the others succeed
                    "wait"        {"ms"}: slow, then as usual; the rest of the rule may hold "then"
                    "die"         it ends before the call is done; "die_after": done, but not answered;
                                  "die_told": done and answered, behind what "text" holds
                    "hang"        the call is never done
                    "raw"         {"text"}: this is written instead of the answer
  faults.used     kept by it: how often each named rule was used (it survives a restart)
  mute            while this file is there, no envelope is handed over
  deaf            while this file is there, no call is read (what is written to it stays unread)
"""

import base64
import fcntl
import json
import os
import queue
import signal
import socketserver
import sys
import threading
import time
import urllib.parse
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

VERSION = "0.13.19"
HOME = os.environ.get("SIGNAL_STANDIN_DIR", ".")
LOOK_SECONDS = 0.01
KEEP_ALIVE_SECONDS = 15

# One lock for everything that is shared; calls that wait do so without it.
LOCK = threading.RLock()
CLIENTS = []
CONFIG = None
ONLY = None
VIA = "stdio"
LAST_TIMESTAMP = 0


def path(name):
    return os.path.join(HOME, name)


def read(name, otherwise=""):
    try:
        with open(path(name), encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return otherwise


def append(name, value):
    line = (json.dumps(value, ensure_ascii=False) + "\n").encode()
    with LOCK:
        file = os.open(path(name), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(file, line)
        os.close(file)


def replace(name, text):
    with open(path(name + ".new"), "w", encoding="utf-8") as file:
        file.write(text)
    os.rename(path(name + ".new"), path(name))


def accounts():
    numbers = read("accounts", "+4915100000000").split()
    return [number for number in numbers if ONLY in (None, number)]


def uuid_of(number):
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "signal:" + number))


def write_accounts():
    if CONFIG is None:
        return
    folder = os.path.join(CONFIG, "data")
    os.makedirs(folder, exist_ok=True)
    known = [
        {"path": str(place), "environment": "LIVE", "number": number, "uuid": uuid_of(number)}
        for place, number in enumerate(accounts())
    ]
    name = os.path.join(folder, "accounts.json")
    text = json.dumps({"accounts": known, "version": 2})
    if os.path.exists(name):
        with open(name, encoding="utf-8") as file:
            if file.read() == text:
                return
    with open(name, "w", encoding="utf-8") as file:
        file.write(text)


class Refused(Exception):
    def __init__(self, code, message, data=None):
        super().__init__(message)
        self.error = {"code": code, "message": message, "data": data}


class Client:
    """Somebody who is told things: a stream of lines, or of events."""

    def __init__(self, write, automatic):
        self.write_bytes = write
        self.lock = threading.Lock()
        # Subscription to the accounts of it; none stands for what starts by itself.
        self.subscriptions = {None: accounts()} if automatic else {}
        with LOCK:
            CLIENTS.append(self)

    def line(self, value):
        self.write((json.dumps(value, ensure_ascii=False) + "\n").encode())

    def write(self, data):
        with self.lock:
            self.write_bytes(data)

    def hear(self, account, heard):
        wrote = False
        for subscription, numbers in list(self.subscriptions.items()):
            if account not in numbers:
                continue
            if "raw" in heard:
                self.write(heard["raw"].encode())
            elif "bytes" in heard:
                self.write(base64.b64decode(heard["bytes"]))
            else:
                said = {key: heard[key] for key in ("exception", "envelope") if key in heard}
                said["account"] = account
                if subscription is not None:
                    said = {"subscription": subscription, "result": said}
                self.receive(said)
            wrote = True
        return wrote

    def receive(self, params):
        self.line({"jsonrpc": "2.0", "method": "receive", "params": params})

    def gone(self):
        with LOCK:
            if self in CLIENTS:
                CLIENTS.remove(self)


class Events(Client):
    """Whoever follows /api/v1/events."""

    def receive(self, params):
        data = json.dumps(params, ensure_ascii=False)
        self.write(f"event:receive\ndata:{data}\n\n".encode())


# --- what people say ---


def hand_over():
    """Follows inject.jsonl; a line is marked once a client has it."""
    while True:
        at = int(read("inject.at", "0") or 0)
        try:
            with open(path("inject.jsonl"), "rb") as file:
                file.seek(at)
                lines = file.readlines()
        except FileNotFoundError:
            lines = []
        for line in lines:
            if not line.endswith(b"\n") or not offer(line):
                break
            at += len(line)
            replace("inject.at", str(at))
        time.sleep(LOOK_SECONDS)


def offer(line):
    heard = json.loads(line)
    known = accounts()
    account = heard.get("account") or (known[0] if known else "")
    if os.path.exists(path("mute")):
        return False
    if "log" in heard:
        print(heard["log"], file=sys.stderr, flush=True)
        return True
    for name, content in heard.get("files", {}).items():
        folder = os.path.join(CONFIG or HOME, "attachments")
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, name), "wb") as file:
            file.write(base64.b64decode(content))
    with LOCK:
        clients = list(CLIENTS)
    took = False
    for client in clients:
        try:
            took = client.hear(account, heard) or took
        except OSError:
            client.gone()
    return took


# --- what it is asked ---


def rule_for(method, params):
    rules = json.loads(read("faults.json", "{}") or "{}").get("faults", [])
    for rule in rules:
        if rule.get("method", method) != method:
            continue
        if any(params.get(key) != value for key, value in rule.get("params", {}).items()):
            continue
        with LOCK:
            used = json.loads(read("faults.used", "{}"))
            count = used.get(rule.get("name", ""), 0)
            if count >= rule.get("times", 1 << 60):
                continue
            used[rule.get("name", "")] = count + 1
            replace("faults.used", json.dumps(used))
        return rule
    return None


def next_timestamp():
    global LAST_TIMESTAMP
    with LOCK:
        LAST_TIMESTAMP = max(LAST_TIMESTAMP + 1, int(time.time() * 1000))
        return LAST_TIMESTAMP


def listed(value):
    return value if isinstance(value, list) else [] if value is None else [value]


def address(recipient):
    is_number = recipient.startswith("+")
    return {
        "uuid": uuid_of(recipient) if is_number else recipient,
        "number": recipient if is_number else None,
        "username": None,
    }


def outcome(params, timestamp, failed=None, only_first=False):
    """What signal-cli says of a send: its JsonSendMessageResult, or the error that all failed."""
    groups = listed(params.get("groupId"))
    who = [(None, one) for one in listed(params.get("recipient"))]
    who += [(group, "+4915199999991") for group in groups] + [(group, "+4915199999992") for group in groups]
    results = []
    for place, (group, recipient) in enumerate(who):
        result = {"recipientAddress": address(recipient)}
        if group is not None:
            result["groupId"] = group
        broken = failed is not None and (place == 0 or not only_first)
        result["type"] = failed["type"] if broken else "SUCCESS"
        if broken and "token" in failed:
            result["token"] = failed["token"]
        if broken and "retryAfterSeconds" in failed:
            result["retryAfterSeconds"] = failed["retryAfterSeconds"]
        results.append(result)
    said = {"timestamp": timestamp, "results": results}
    if all(result["type"] != "SUCCESS" for result in results):
        code, why = {
            "IDENTITY_FAILURE": (-4, "Failed to send message due to untrusted identities"),
            "RATE_LIMIT_FAILURE": (-5, "Failed to send message due to rate limiting"),
        }.get(failed["type"], (-1, "Failed to send message"))
        raise Refused(code, why, {"response": said})
    return said


NEXT_SUBSCRIPTION = 0


def subscribe(client, params):
    global NEXT_SUBSCRIPTION
    numbers = [params["account"]] if "account" in params else accounts()
    with LOCK:
        subscription = NEXT_SUBSCRIPTION
        NEXT_SUBSCRIPTION += 1
    return subscription, lambda: client.subscriptions.update({subscription: numbers})


def unsubscribe(client, params):
    if client.subscriptions.pop(params.get("subscription"), None) is None:
        raise Refused(-1, "Unknown subscription id")
    return {}


def attachment(params):
    name = os.path.basename(params.get("id") or "")
    try:
        with open(os.path.join(CONFIG or HOME, "attachments", name), "rb") as file:
            return {"data": base64.b64encode(file.read()).decode()}
    except OSError as error:
        raise Refused(-1, f"Could not find attachment with ID: {name}") from error


# As long as those that Signal gives.
ADDRESS = (
    "sgnl://linkdevice?uuid=K1hJ%2FxQ%2Bc%2BcOQ%2FvNqXAhzg%3D%3D"
    "&pub_key=BXo%2Bqw%2FfXrod%2FvKam%2BQyqgpobonacizhwkedrctlyqujz"
)
SINGLE = {
    "send", "sendTyping", "sendReceipt", "sendReaction", "getAttachment", "listGroups", "listIdentities",
    "trust", "updateProfile", "getUserStatus", "listContacts", "unregister",
}


def link():
    number = read("link.number", "+4915100000000").strip()
    known = accounts()
    if number not in known or not os.path.exists(path("accounts")):
        replace("accounts", "\n".join([*(one for one in known if one != number), number]) + "\n")
    write_accounts()
    return number


def run(client, method, params):
    """The result, and what is to be done once it was told."""
    nothing = lambda: None
    if ONLY is None and params.get("account") is not None and params["account"] not in accounts():
        raise Refused(-32602, "Specified account does not exist")
    if ONLY is None and params.get("account") is None and method in SINGLE:
        raise Refused(-32602, "Method requires valid account parameter")
    if method == "subscribeReceive":
        return subscribe(client, params)
    if method == "unsubscribeReceive":
        return unsubscribe(client, params), nothing
    if method == "version":
        return {"version": VERSION}, nothing
    if method == "listAccounts" and ONLY is None:
        return [{"number": number} for number in accounts()], nothing
    if method == "startLink" and ONLY is None:
        return {"deviceLinkUri": ADDRESS}, nothing
    if method == "finishLink" and ONLY is None:
        return {"number": link()}, nothing
    if method == "getAttachment":
        return attachment(params), nothing
    if method == "send" and not (params.get("message") or params.get("attachment")):
        raise Refused(-1, "Sending empty message is not allowed, either a message, attachment or sticker must be given.")
    if method in ("send", "sendTyping", "sendReaction", "sendReceipt"):
        if not listed(params.get("recipient")) and not listed(params.get("groupId")):
            raise Refused(-1, "No recipients given")
        return outcome(params, params["_timestamp"]), nothing
    if method in ("trust", "updateProfile", "unregister"):
        return {}, nothing
    if method == "listGroups":
        return json.loads(read("groups.json", "[]")), nothing
    if method in ("listIdentities", "getUserStatus", "listContacts"):
        return [], nothing
    raise Refused(-32601, "Method not implemented")


def answer(client, request):
    """The response, as bytes or as a value, and what is to be done once it was told."""
    nothing = lambda: None
    if not isinstance(request, dict) or request.get("jsonrpc") != "2.0":
        error = {"code": -32600, "message": "only jsonrpc version 2.0 is supported", "data": None}
        number = request.get("id") if isinstance(request, dict) else None
        return {"jsonrpc": "2.0", "error": error, "id": number}, nothing
    method, params, number = request.get("method"), request.get("params") or {}, request.get("id")
    timestamp = next_timestamp()
    call = {"method": method, "params": params, "id": number, "pid": os.getpid(), "via": VIA}
    if method == "send":
        call["timestamp"] = timestamp
    params = {**params, "_timestamp": timestamp}
    rule = rule_for(method, params) or {}
    deed = rule.get("do")
    if deed == "wait":
        time.sleep(rule["ms"] / 1000)
        deed = rule.get("then")
    if deed == "hang":
        return None, nothing
    if deed == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        if deed == "refuse":
            raise Refused(rule["code"], rule["message"], rule.get("data"))
        if deed in ("fail", "partly"):
            result, after = outcome(params, timestamp, rule, deed == "partly"), nothing
        elif deed == "result":
            result, after = rule["result"], nothing
        else:
            result, after = run(client, method, params)
        append("sent.jsonl", call)
    except Refused as refused:
        append("sent.jsonl", {**call, "refused": refused.error["code"]})
        return {"jsonrpc": "2.0", "error": refused.error, "id": number}, nothing
    if deed == "die_after":
        os.kill(os.getpid(), signal.SIGKILL)
    if deed == "lose":
        return None, after
    if deed == "die_told":
        told = rule["text"] + json.dumps({"jsonrpc": "2.0", "result": result, "id": number}) + "\n"
        return told.encode(), lambda: os.kill(os.getpid(), signal.SIGKILL)
    if deed == "raw":
        return rule["text"].encode(), after
    return {"jsonrpc": "2.0", "result": result, "id": number}, after


def handle(client, line):
    try:
        request = json.loads(line)
    except ValueError as error:
        problem = {"code": -32700, "message": str(error), "data": None}
        client.line({"jsonrpc": "2.0", "error": problem, "id": None})
        return
    response, after = answer(client, request)
    try:
        if isinstance(response, bytes):
            client.write(response)
        elif response is not None:
            client.line(response)
    except OSError:
        client.gone()
        return
    after()


def serve_lines(lines, write, automatic):
    """One connection: each call has a thread of its own, as with signal-cli."""
    client = Client(write, automatic)
    calls = []
    try:
        for line in lines:
            while os.path.exists(path("deaf")):
                time.sleep(LOOK_SECONDS)
            thread = threading.Thread(target=handle, args=(client, line), daemon=True)
            thread.start()
            calls = [call for call in calls if call.is_alive()] + [thread]
    except OSError:
        pass
    client.gone()
    for call in calls:
        call.join(timeout=1)


class Socket(socketserver.StreamRequestHandler):
    def handle(self):
        serve_lines(self.rfile, self.connection.sendall, self.server.automatic)


class UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    allow_reuse_address = True


class TcpServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
    allow_reuse_address = True


class Http(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, status, body=b"", kind="application/json"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if urllib.parse.urlsplit(self.path).path != "/api/v1/rpc":
            return self.reply(404)
        try:
            request = json.loads(body)
        except ValueError as error:
            problem = {"code": -32700, "message": str(error), "data": None}
            return self.reply(200, json.dumps({"jsonrpc": "2.0", "error": problem, "id": None}).encode())
        response, _ = answer(None, request)
        if response is None:
            # The connection is held, as by a server that thinks.
            while not os.path.exists(path("let-go")):
                time.sleep(LOOK_SECONDS)
            self.close_connection = True
            return None
        return self.reply(200, response if isinstance(response, bytes) else json.dumps(response).encode())

    def do_GET(self):
        parts = urllib.parse.urlsplit(self.path)
        if parts.path == "/api/v1/check":
            return self.reply(200)
        if parts.path != "/api/v1/events":
            return self.reply(404)
        asked = urllib.parse.parse_qs(parts.query).get("account")
        if asked and asked[0] not in accounts():
            return self.reply(400)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.wfile.flush()
        self.close_connection = True
        client = Events(self.wfile.write, False)
        client.subscriptions = {None: asked or accounts()}
        append("sent.jsonl", {"method": "GET /api/v1/events", "params": {"account": (asked or [None])[0]}, "pid": os.getpid(), "via": VIA})
        try:
            while True:
                time.sleep(KEEP_ALIVE_SECONDS)
                client.write(b":\n")
        except OSError:
            client.gone()
        return None


def serve(server, where, automatic):
    server.automatic = automatic
    append("starts.jsonl", {"pid": os.getpid(), "args": sys.argv[1:], **where})
    threading.Thread(target=hand_over, daemon=True).start()
    server.serve_forever()


def daemon(options, automatic):
    global VIA
    if "--socket" in options:
        VIA, name = "unix", options["--socket"]
        if os.path.exists(name):
            os.unlink(name)
        serve(UnixServer(name, Socket), {"path": name}, automatic)
    host, _, port = (options.get("--tcp") or options.get("--http") or "127.0.0.1:0").rpartition(":")
    if "--tcp" in options:
        VIA = "tcp"
        server = TcpServer((host, int(port)), Socket)
    else:
        VIA = "http"
        ThreadingHTTPServer.daemon_threads = True
        server = ThreadingHTTPServer((host, int(port)), Http)
    serve(server, {"port": server.server_address[1]}, automatic)


def json_rpc(automatic):
    append("starts.jsonl", {"pid": os.getpid(), "args": sys.argv[1:]})
    threading.Thread(target=hand_over, daemon=True).start()

    def write(data):
        while data:
            data = data[os.write(1, data):]

    serve_lines(sys.stdin.buffer, write, automatic)


def options_of(arguments):
    options, rest = {}, []
    while arguments:
        word = arguments.pop(0)
        if word in ("--ignore-stories", "--ignore-attachments", "--send-read-receipts", "--verbose", "-v"):
            continue
        if word == "--version":
            rest.append("version")
        elif word.startswith("--") and "=" in word:
            name, _, value = word.partition("=")
            options[name] = value
        elif word == "--trust-all-known-keys":
            options[word] = True
        elif word.startswith("-"):
            name = {"-a": "--account", "-u": "--account", "-c": "--config", "-o": "--output", "-n": "--name"}.get(word, word)
            options[name] = arguments.pop(0) if arguments else ""
        else:
            rest.append(word)
    return options, rest


def hold_the_lock():
    """Two of them never serve the same folder: the later one waits, as signal-cli does."""
    if CONFIG is None:
        return None
    os.makedirs(os.path.join(CONFIG, "data"), exist_ok=True)
    lock = open(os.path.join(CONFIG, "data", "lock"), "w", encoding="utf-8")
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def main():
    global CONFIG, ONLY
    options, rest = options_of(sys.argv[1:])
    CONFIG, ONLY = options.get("--config"), options.get("--account")
    command = rest[0] if rest else ""
    os.makedirs(HOME, exist_ok=True)
    automatic = options.get("--receive-mode", "on-start") == "on-start"
    if command == "version":
        print(f"signal-cli {VERSION}")
    elif command == "listAccounts":
        if options.get("--output") == "json":
            print(json.dumps([{"number": number} for number in accounts()]))
        else:
            for number in accounts():
                print(f"Number: {number}")
    elif command == "trust":
        append("sent.jsonl", {"method": "trust", "params": {"arguments": sys.argv[1:]}, "pid": os.getpid(), "via": "command"})
    elif command == "listIdentities":
        print("[]")
    elif command == "listGroups":
        print(read("groups.json", "[]"))
    elif command == "link":
        append("starts.jsonl", {"pid": os.getpid(), "args": sys.argv[1:]})
        print(ADDRESS, flush=True)
        # The telephone takes its time for as long as this file is there.
        while os.path.exists(path("link.wait")):
            time.sleep(LOOK_SECONDS)
        print(f"Associated with: {link()}")
    elif command in ("jsonRpc", "daemon"):
        lock = hold_the_lock()
        write_accounts()
        if command == "jsonRpc":
            json_rpc(automatic)
        else:
            daemon(options, automatic)
        del lock
    else:
        print(f"stand-in: no such command: {command!r}", file=sys.stderr)
        sys.exit(1)


main()
