"""Starts a server with something in it, lets Schemathesis ask it with each sort of key, and looks
afterwards whether all is well: the log, the audit. `make contract` calls it; see contract.sh."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
BINARY = os.environ.get("TURNKEEP_BINARY", ROOT / "target/debug/turnkeep")
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
]
# Streams never end, and nobody makes up a file with a hash. Tests of ours look at them.
LEFT_OUT = r"^/v1/(events|sessions/\{session\}/events|sessions/file|switchboard/events)$"

CONFIG = """
log_level = "warn"
trusted_proxies = ["127.0.0.0/8"]
[gateway]
rate_limiting_enabled = false
callbacks_may_reach = ["127.0.0.0/8"]
[guard]
repeats_max = 0
links_max = 0
[agents.default]
kind = "echo"
[agents.broken]
kind = "openai"
base_url = "http://127.0.0.1:9/v1"
model = "none"
max_retries = 0
errors_max = 1
[channels.sms]
spool = "sms.jsonl"
[listeners.nobody]
url = "http://127.0.0.1:9/"
secret_env = "NOBODY_SECRET"
"""


class Server:
    def __init__(self, home):
        config = home / "turnkeep.toml"
        config.write_text(CONFIG)
        self.log = home / "log"
        self.env = {
            "PATH": os.environ["PATH"],
            "TURNKEEP_CONFIG": str(config),
            "TURNKEEP_DATA_DIR": str(home / "data"),
            "NOBODY_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYqrTwjU",
        }
        self.process = subprocess.Popen(
            [BINARY, "serve", "--listen", "127.0.0.1:0"],
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=self.log.open("w"),
            text=True,
        )
        line = self.process.stdout.readline()
        if "listening on" not in line:
            sys.exit(f"the server did not start:\n{self.log.read_text()}")
        self.url = line.split()[-1]

    def run(self, *args):
        done = subprocess.run([BINARY, *args], env=self.env, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"turnkeep {' '.join(args)}: {done.stderr}{done.stdout}")
        return done.stdout.strip()

    def ask(self, key, method, path, body=None):
        request = urllib.request.Request(self.url + path, method=method)
        request.add_header("authorization", f"Bearer {key}")
        if body is not None:
            request.add_header("content-type", "application/json")
            request.data = json.dumps(body).encode()
        try:
            with urllib.request.urlopen(request) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as refused:
            sys.exit(f"{method} {path}: {refused.code} {refused.read().decode()}")


def furnish(server, key, operator):
    """Makes one of everything, and says what it is called."""
    anna = server.ask(key, "POST", "/v1/chat?wait=10", {"customer_id": "anna", "message": "hi"})
    sms = {"customer_id": "+1", "channel": "sms", "message": "hi"}
    sms = server.ask(key, "POST", "/v1/chat?wait=10", sms)
    broken = {"customer_id": "bob", "agent_id": "broken", "message": "hi"}
    broken = server.ask(key, "POST", "/v1/chat?wait=20", broken)
    assert broken["status"] == "failed", broken
    letters = server.ask(key, "GET", "/v1/deadletters")["dead_letters"]
    wrong = {"customer_id": "mallory", "severity": "block"}
    restriction = server.ask(key, "POST", "/v1/restrictions", wrong)
    # Whoever is erased is gone for the requests behind that, so these are nobody else's.
    people = ["carla", "dora", "emil"]
    for person in people:
        server.ask(key, "POST", "/v1/chat", {"customer_id": person, "message": "hi"})
    keys = [server.ask(key, "POST", "/v1/keys", {"scopes": ["read"]})["id"] for _ in range(5)]
    pair = lambda number: server.ask(operator, "POST", "/v1/pairing", {"user": f"user {number}"})
    pairings = [pair(number)["id"] for number in range(5)]
    told = {"customer_id": "anna", "channel": "web"}
    job = {"name": "news", "schedule": "0 7 * * *", "prompt": "what is new?", **told}
    server.ask(key, "POST", "/v1/cron", job)
    reminder = {"in_seconds": 86_400, "text": "the oven", **told}
    reminder = server.ask(key, "POST", "/v1/reminders", reminder)
    board = {"name": "api work", "seat": "tty1"}
    board = [server.ask(key, "POST", "/v1/switchboard", board)]
    board += [server.ask(key, "POST", "/v1/switchboard", {}) for _ in range(3)]
    return {
        "/v1/switchboard/": {
            "which": [str(row["number"]) for row in board]
            + ["api work", board[1]["id"], board[2]["session"], board[3]["id"][:6]],
        },
        "/v1/cron/": {"name": ["news"]},
        "/v1/reminders/": {"name": [reminder["name"]]},
        "/v1/sessions/": {
            "session": [anna["session"], sms["session"], broken["session"]],
            "reply": ["1", "2", "3", "4"],
            "part": ["0"],
        },
        "/v1/turns/": {"turn_id": [anna["turn_id"], broken["turn_id"]]},
        "/v1/keys/": {"id": keys},
        "/v1/pairing/": {"id": pairings},
        "/v1/restrictions/": {"id": [str(restriction["id"])]},
        "/v1/deadletters/": {"id": [str(letter["id"]) for letter in letters]},
        "/v1/listeners/": {"name": ["nobody"]},
        "/v1/worktrees/": {"id": ["3f9c2b61d0aa"]},
        "/v1/customers/": {"tenant": ["acme"], "customer": people},
    }


def check(server, who, key, known, examples):
    """True if every answer was as promised."""
    print(f"== {who}", flush=True)
    command = [
        pathlib.Path(sys.executable).parent / "schemathesis",
        "run",
        server.url + "/openapi.json",
        "--header", f"Authorization: Bearer {key}",
        "--exclude-path-regex", LEFT_OUT,
        "--checks", ",".join(CHECKS),
        "--phases", "examples,coverage,fuzzing",
        "--max-examples", str(examples),
        "--seed", os.environ.get("SEED", "1"),
        "--request-timeout", "30",
        "--continue-on-failure",
        "--warnings", "off",
        "--workers", "2",
    ]
    env = dict(
        os.environ,
        CONTRACT_KNOWN=json.dumps(known),
        SCHEMATHESIS_HOOKS="hooks",
        PYTHONPATH=str(HERE),
        PYTHONDONTWRITEBYTECODE="1",
    )
    # Its database of examples and its reports stay out of the tree.
    done = subprocess.run(command, env=env, cwd=server.log.parent)
    return done.returncode == 0


def main():
    examples = int(sys.argv[1])
    with tempfile.TemporaryDirectory() as home:
        server = Server(pathlib.Path(home))
        operator = server.run("keys", "create", "--operator", "--scope", "admin")
        # Nobody shall revoke the key that is being used: these are not among what is known.
        keys = {"the operator": operator}
        for scope in ("send", "read", "admin"):
            made = server.run("keys", "create", "--tenant", "acme", "--scope", scope)
            keys[f"a tenant's key with the scope {scope}"] = made
        known = furnish(server, keys["a tenant's key with the scope admin"], operator)
        began = time.monotonic()
        well = [check(server, who, key, known, examples) for who, key in keys.items()]
        still = server.process.poll() is None
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(60)
        log = server.log.read_text()
        loud = [line for line in log.splitlines() if " ERROR " in line or "panic" in line]
        print(server.run("audit"))
        print(f"{time.monotonic() - began:.0f} s; the log holds {len(loud)} errors")
        print("\n".join(loud[:20]))
        sys.exit(0 if all(well) and still and not loud else 1)


main()
