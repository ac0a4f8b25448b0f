"""Plans a trip in steps and books it. After a change of mind, what is still right is not made again,
and a booking that is wrong is undone before the next one is made.

Every step and every booking is a line in trip.txt.
"""

from __future__ import annotations

import re

from brain import MailFirst, Message, Refused, Turn, run


def note(line: str) -> str:
    with open("trip.txt", "a", encoding="utf-8") as log:
        log.write(line + "\n")
    return line


def make(name: str, content: str) -> str:
    note(f"made {name}")
    return content


def last(messages: list[Message], pattern: str, otherwise: str) -> str:
    """Who corrects themselves means the correction."""
    found = [match for message in messages for match in re.findall(pattern, message.text)]
    return found[-1] if found else otherwise


def decide(arrived: Message) -> str:
    """With `busy_policy = "agent"`: who changes their mind starts over."""
    return "supersede" if arrived.text.lower().startswith("no,") else "absorb_continue"


def undo(turn: Turn, plan: str) -> bool:
    """Takes back what was booked for another plan. False if nobody knows whether that worked."""
    for booked in turn.recorded:
        stands = booked["outcome"] != "failed" and "compensated_by" not in booked
        if booked["tool"] != "book" or booked["input"] == plan or not stands:
            continue
        # It names what it takes back, so the hotel can also refuse it if it comes later.
        cancelled = turn.call("cancel", lambda: note("cancelled " + booked["input"]), key="trip",
                              effects="idempotent", compensates=booked["call"])
        if cancelled.outcome != "done":
            return False
    return True


def answer(turn: Turn) -> str:
    while True:
        try:
            return travel(turn)
        except MailFirst:
            # What came meanwhile may change everything.
            turn.messages += turn.mail()
        except Refused as why:
            return f"Nothing was booked: {why}."


def travel(turn: Turn) -> str:
    days = last(turn.messages, r"\b(weekend|week)\b", "weekend")
    city = last(turn.messages, r"\bin (\w+)", "Rome")
    dates = turn.step("dates", lambda: make("dates", f"a {days}"), text=days)
    hotel = turn.step("hotel", lambda: make("hotel", f"Hotel {city}"), text=city)
    plan = turn.step("plan", lambda: make("plan", f"{dates}, {hotel}"), depends=["dates", "hotel"])
    if not undo(turn, plan):
        return "I can't tell what is booked. A person will look."
    booked = turn.call("book", lambda: note(f"booked {plan}"), key="trip",
                       effects="compensatable", input=plan)
    while turn.messages[-1].text.endswith("...") and turn.wait_for_mail():
        turn.messages += turn.mail()
    return f"{plan}: {booked.outcome}"


if __name__ == "__main__":
    run(answer, decide)
