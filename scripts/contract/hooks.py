"""What Schemathesis does to each request of `make contract` before it is sent.

Requests that are made up hardly ever get past the checks of their fields, and never meet anything
that is there. So about half of them get the name of something that is there, and a body that is
right; the rest go as they were made up.
"""

import itertools
import json
import os
import random

import schemathesis

# What is there, by the beginning of the path that asks for it, and by the name of the parameter.
KNOWN = json.loads(os.environ["CONTRACT_KNOWN"])
NUMBERS = itertools.count(1)

# A right body, by the end of the path.
RIGHT = {
    "/v1/chat": lambda number: {"customer_id": "anna", "message": f"hello {number}"},
    "/v1/messages": lambda number: {"session": KNOWN["/v1/sessions/"]["session"][0], "message": "hi"},
    "/v1/restrictions": lambda number: {"customer_id": f"m {number}", "severity": "block"},
    "/appeal": lambda number: {"text": "it was my brother"},
    "/lift": lambda number: {"by": "a person"},
    "/v1/cron": lambda number: {
        "name": f"job-{number % 20}",
        "schedule": "0 7 * * *",
        "text": "hi",
        "customer_id": "anna",
        "channel": "web",
    },
    "/v1/reminders": lambda number: {
        "in_seconds": 86_400 + number,
        "text": "hi",
        "customer_id": "anna",
        "channel": "web",
    },
    "/v1/keys": lambda number: {"scopes": ["read"], "label": f"number {number}"},
    "/v1/signal/trust": lambda number: {"who": f"+49151{number:08}"},
    "/v1/pairing": lambda number: {"user": f"user {number}", "minutes": 1},
    "/rotate": lambda number: {"grace_s": 60},
    "/v1/sign-ins": lambda number: {"customer_id": "anna"},
    "/queue": lambda number: {"busy_policy": "collect"},
    "/remove": lambda number: {"force": number % 2 == 0},
    "/stop": lambda number: {},
    "/pause": lambda number: {"by": "Ann"},
    "/hand_back": lambda number: {},
    "/v1/switchboard": lambda number: {"seat": f"tty{number % 9}"},
    "/name": lambda number: {"name": f"name {number % 30}"},
    "/switch": lambda number: {"seat": f"tty{number % 9}"},
    "/read": lambda number: {"seq": number % 9},
    "/reply": lambda number: {"text": f"hello {number}", "id": f"r {number % 50}"},
}


@schemathesis.hook
def before_call(context, case, kwargs):
    number = next(NUMBERS)
    # Wrong keys are among the requests, and an address may guess ten times only; the server
    # believes whoever speaks for others from this machine.
    case.headers["X-Forwarded-For"] = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    path = case.operation.path
    for beginning, names in KNOWN.items():
        for name, values in names.items():
            asked = case.path_parameters and name in case.path_parameters
            if asked and path.startswith(beginning) and random.random() < 0.6:
                case.path_parameters[name] = random.choice(values)
    for end, body in RIGHT.items():
        if path.endswith(end) and case.method in ("POST", "PUT") and random.random() < 0.5:
            case.body = body(number)
            case.media_type = "application/json"
            case.headers.pop("Idempotency-Key", None)
            case.headers["Content-Type"] = "application/json"
    # A wait is right up to five minutes, and nobody has so much time here.
    if case.query and "wait" in case.query:
        case.query["wait"] = "0.5"
