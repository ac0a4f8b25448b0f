"""Refunds orders, each once. The shop is a file: a line for each refund that was really made."""

import os
import re
import time

from brain import MailFirst, Message, Refused, Result, Turn, run

# How long the shop takes to answer, once it has paid.
SECONDS = float(os.environ.get("SHOP_SECONDS", "0"))


def refund(order: str) -> str:
    with open("refunds.txt", "a", encoding="utf-8") as shop:
        shop.write(order + "\n")
    time.sleep(SECONDS)
    return f"paid back order {order}"


def order_of(messages: list[Message]) -> str | None:
    """The last number counts: who corrects themselves means the correction."""
    numbers = [number for message in messages for number in re.findall(r"\d+", message.text)]
    return numbers[-1] if numbers else None


def act(turn: Turn) -> tuple[str, Result]:
    messages = turn.messages
    while True:
        order = order_of(messages)
        if order is None:
            messages.append(turn.ask("Which order shall I refund?"))
            continue
        try:
            # The order's number is the key: whatever attempt asks, it is the same act.
            return order, turn.call("refund", lambda: refund(order), key=order, input=order)
        except MailFirst:
            # Something was said before it was too late.
            messages += turn.mail()


def answer(turn: Turn) -> str:
    try:
        order, result = act(turn)
    except Refused as why:
        return f"Nothing was refunded: {why}."
    replies = {
        "done": f"Order {order} is refunded.",
        "failed": f"The shop did not refund order {order}. Nothing was paid.",
        "unknown": f"I can't tell whether order {order} was refunded. A person will look.",
    }
    return replies[result.outcome]


if __name__ == "__main__":
    run(answer)
