"""Repeats what it was told. A message that ends in `...` is not the last one: it waits for more."""

import os
import time

from brain import Message, Turn, run

# How long it thinks; for those who measure.
SECONDS = float(os.environ.get("ECHO_SECONDS", "0"))


def decide(arrived: Message) -> str:
    """With `busy_policy = "agent"`: who changes their mind starts over."""
    return "supersede" if arrived.text.lower().startswith("no,") else "absorb_continue"


def answer(turn: Turn) -> str:
    messages = turn.messages
    turn.say("echo: ")
    time.sleep(SECONDS)
    while messages[-1].text.endswith("...") and turn.wait_for_mail():
        messages += turn.mail()
    while turn.has_mail():
        messages += turn.mail()
    text = "\n".join(message.text for message in messages)
    turn.say(text)
    return "echo: " + text


if __name__ == "__main__":
    run(answer, decide)
