"""A shop as a server of tools: one of them, refund, writes an order's number into refunds.txt and
takes SHOP_SECONDS to say so."""

import json
import os
import sys
import time

REFUND = {
    "name": "refund",
    "description": "pays an order back",
    "inputSchema": {
        "type": "object",
        "properties": {"order": {"type": "string"}},
        "required": ["order"],
    },
}


def answer(method, params):
    if method == "initialize":
        return {
            "protocolVersion": params["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "shop", "version": "1"},
        }
    if method == "tools/list":
        return {"tools": [REFUND]}
    if method == "tools/call":
        order = params["arguments"]["order"]
        with open("refunds.txt", "a", encoding="utf-8") as refunds:
            refunds.write(order + "\n")
        time.sleep(float(os.environ["SHOP_SECONDS"]))
        return {"content": [{"type": "text", "text": "paid back " + order}]}
    return {}


for line in sys.stdin:
    message = json.loads(line)
    if "id" in message:
        result = answer(message["method"], message.get("params", {}))
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
