"""A brain of Turnkeep: answers one turn as a process or, with http_brain.py, many as a server.

Copy this file beside your brain. The contract is docs/brains.md.
"""

from __future__ import annotations

import itertools
import json
import os
import queue
import sys
import threading
import traceback
from dataclasses import asdict, dataclass
from typing import Any, Callable, NoReturn, Sequence, Union


class Refused(Exception):
    """What was asked for may not be done."""


class MailFirst(Exception):
    """Take the mail, think again, then ask again."""


class NotDone(Exception):
    """Raised by a tool that certainly did nothing: it may be tried again."""


class Gone(BaseException):
    """Nobody waits for this turn any more. Let it pass: it ends the work."""


@dataclass(frozen=True)
class Message:
    seq: int
    message_id: str
    sender: str
    text: str
    at: int


@dataclass(frozen=True)
class Result:
    """What came of an act: `done`, `failed` or `unknown`; `known` if this call did nothing."""

    outcome: str
    output: str
    call: int
    known: bool = False


@dataclass(frozen=True)
class Reply:
    """The end of a turn. Nothing is said to the user if `reply` is none."""

    reply: str | None
    used: int | None = None
    hint: str | None = None
    version: str | None = None


def message(fields: dict[str, Any]) -> Message:
    return Message(**{name: fields[name] for name in Message.__dataclass_fields__})


def inputs(messages: Sequence[Message], text: str) -> dict[str, Any]:
    return {"messages": [message.seq for message in messages], "text": text}


def absorb(_: Message) -> str:
    return "absorb_continue"


Decide = Callable[[Message], str]
Tell = Callable[[dict[str, Any]], None]


class Turn:
    """The turn to answer, and the way back. Its methods may be called from any thread."""

    def __init__(self, facts: dict[str, Any], tell: Tell, decide: Decide = absorb) -> None:
        self.facts = facts
        self.messages = [message(fields) for fields in facts["messages"]]
        self.history: list[dict[str, Any]] = facts["history"]
        self.recorded: list[dict[str, Any]] = facts["recorded"]
        self.finish_now = False
        self._has_mail = False
        self._gone = False
        self._news = threading.Condition()
        self._answers: dict[str, queue.Queue[dict[str, Any] | None]] = {}
        self._ids = map(str, itertools.count(1))
        self._send = tell
        self._decide = decide

    def say(self, text: str) -> None:
        """Text that the user sees growing; empty, it is a sign of life."""
        self._tell("say", text=text)

    def emit(self, name: str, detail: str = "") -> None:
        self._tell("emit", name=name, detail=detail)

    def has_mail(self) -> bool:
        return self._has_mail

    def wait_for_mail(self) -> bool:
        """Waits; false if it is time to finish instead."""
        with self._news:
            self._news.wait_for(lambda: self._has_mail or self.finish_now or self._gone)
        if self._gone:
            raise Gone
        return self._has_mail

    def mail(self) -> list[Message]:
        self._has_mail = False
        return [message(fields) for fields in self._request("take_mail")["messages"]]

    def ask(self, text: str, confirm: bool = False) -> Message:
        """Asks the user. With `confirm` only what is said after the question is an answer."""
        said = self._request("ask", text=text, confirm=confirm)
        if said["type"] == "mail_first":
            raise MailFirst
        return message(said["message"])

    def commit_point(self) -> None:
        self._request("commit_point")

    def call(self, tool: str, act: Callable[[], str], key: str, effects: str = "irreversible",
             input: str = "", compensates: int | None = None) -> Result:
        """Acts, unless it was done before or may have been. `key` tells this act from others;
        `compensates` names the call that it undoes."""
        said = self._request("intend", tool=tool, key=key, effects=effects, input=input,
                             compensates=compensates)
        if said["type"] == "mail_first":
            raise MailFirst
        call: int = said["call"]
        if said["type"] == "known":
            return Result(said["outcome"], said["output"], call, known=True)
        try:
            result = Result("done", act(), call)
        except NotDone as error:
            result = Result("failed", str(error), call)
        except Exception as error:  # Nobody can say how far it got.
            result = Result("unknown", str(error), call)
        self._request("returned", call=call, outcome=result.outcome, output=result.output)
        return result

    def keep(self, name: str, content: str, messages: Sequence[Message] = (), text: str = "",
             depends: Sequence[str] = ()) -> bool:
        """Keeps a part of the work for later attempts. It holds for as long as what it was made of
        is the same: these messages, this text, these other parts. False if it doesn't hold now."""
        said = self._request("keep", name=name, content=content, depends=list(depends),
                             inputs=inputs(messages, text))
        return bool(said["type"] == "recorded")

    def recall(self, name: str, messages: Sequence[Message] = (), text: str = "") -> str | None:
        """What was kept under this name, if it holds for what it would be made of now."""
        said = self._request("recall", name=name, inputs=inputs(messages, text))
        return said["content"] if said["type"] == "kept" else None

    def step(self, name: str, make: Callable[[], str], messages: Sequence[Message] = (),
             text: str = "", depends: Sequence[str] = ()) -> str:
        """What an earlier attempt made of the same, or else what `make` makes now. `depends` names
        steps of this attempt."""
        content = self.recall(name, messages, text)
        if content is None:
            content = make()
            self.keep(name, content, messages, text, depends)
        return content

    def used(self, model: str, input_tokens: int, output_tokens: int, **more: int) -> None:
        """What a request to a model took; also `cached_tokens` and `cost_micros` where known."""
        self._tell("used", model=model, input_tokens=input_tokens, output_tokens=output_tokens,
                   **more)

    def hear(self, said: dict[str, Any]) -> None:
        """Takes what the gateway says. What it doesn't know is from a later version."""
        if said["type"] == "question":
            choice = self._decide(message(said["message"]))
            self._tell("choose", question_id=said["question_id"], choice=choice)
        answer = self._answers.pop(said.get("id", ""), None)
        if answer is not None:
            answer.put(said)
        with self._news:
            self._has_mail |= said["type"] == "mail_waiting"
            self.finish_now |= said["type"] == "finish_now"
            self._news.notify_all()

    def leave(self) -> None:
        """Nobody will answer any more."""
        with self._news:
            self._gone = True
            self._news.notify_all()
        for answer in list(self._answers.values()):
            answer.put(None)

    def _tell(self, kind: str, **fields: Any) -> None:
        if self._gone:
            raise Gone
        self._send({"type": kind, **fields})

    def _request(self, kind: str, **fields: Any) -> dict[str, Any]:
        name = next(self._ids)
        answer = self._answers[name] = queue.Queue()
        self._tell(kind, id=name, **fields)
        said = answer.get()
        if said is None:
            raise Gone
        if said["type"] == "refused":
            raise Refused(said["reason"])
        return said


Answer = Callable[[Turn], Union[Reply, str, None]]


def finished(reply: Reply | str | None) -> dict[str, Any]:
    whole = reply if isinstance(reply, Reply) else Reply(reply)
    return {"type": "finished", **asdict(whole)}


def run(answer: Answer, decide: Decide = absorb) -> None:
    """Answers one turn over the standard streams or, with `--http PORT`, many at once."""
    if "--http" in sys.argv:
        import http_brain

        http_brain.serve(answer, decide, int(sys.argv[sys.argv.index("--http") + 1]))
    else:
        over_streams(answer, decide)


def over_streams(answer: Answer, decide: Decide) -> NoReturn:
    writing = threading.Lock()
    over = False

    def tell(said: dict[str, Any]) -> None:
        nonlocal over
        with writing:  # Threads must not mix their lines, and none speaks after the last word.
            if over:
                return
            over = said["type"] in ("finished", "failed")
            print(json.dumps(said), flush=True)

    def listen() -> None:
        try:
            for line in sys.stdin:
                turn.hear(json.loads(line))
        except Exception:
            traceback.print_exc()
            leave(1)
        leave()  # Nobody listens any more: the turn was cancelled, or the gateway is gone.

    turn = Turn(json.loads(sys.stdin.readline() or leave()), tell, decide)
    threading.Thread(target=listen, daemon=True).start()
    tell(finished(answer(turn)))
    leave()


def leave(status: int = 0) -> NoReturn:
    """Ends at once, whatever other threads do."""
    os._exit(status)
