"""A brain of Turnkeep: one process, one turn, JSON lines over standard input and output.

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
from dataclasses import dataclass
from typing import Any, Callable, NoReturn


class Refused(Exception):
    """What was asked for may not be done."""


class MailFirst(Exception):
    """Take the mail, think again, then ask again."""


class NotDone(Exception):
    """Raised by a tool that certainly did nothing: it may be tried again."""


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
    known: bool = False


def message(fields: dict[str, Any]) -> Message:
    return Message(**{name: fields[name] for name in Message.__dataclass_fields__})


def absorb(_: Message) -> str:
    return "absorb_continue"


class Turn:
    """The turn to answer, and the way back."""

    def __init__(self, on_question: Callable[[Message], str] = absorb) -> None:
        self.facts: dict[str, Any] = json.loads(sys.stdin.readline() or leave())
        self.messages = [message(fields) for fields in self.facts["messages"]]
        self.history: list[dict[str, Any]] = self.facts["history"]
        self.recorded: list[dict[str, Any]] = self.facts["recorded"]
        self.finish_now = False
        self._has_mail = False
        self._news = threading.Condition()
        self._writing = threading.Lock()
        self._answers: dict[str, queue.Queue[dict[str, Any]]] = {}
        self._ids = map(str, itertools.count(1))
        self._on_question = on_question
        threading.Thread(target=self._read, daemon=True).start()

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
            self._news.wait_for(lambda: self._has_mail or self.finish_now)
        return self._has_mail

    def mail(self) -> list[Message]:
        self._has_mail = False
        return [message(fields) for fields in self._request("take_mail")["messages"]]

    def ask(self, text: str) -> Message:
        return message(self._request("ask", text=text)["message"])

    def commit_point(self) -> None:
        self._request("commit_point")

    def call(self, tool: str, act: Callable[[], str], key: str, effects: str = "irreversible",
             input: str = "") -> Result:
        """Acts, unless it was done before or may have been. `key` tells this act from others."""
        said = self._request("intend", tool=tool, key=key, effects=effects, input=input)
        if said["type"] == "mail_first":
            raise MailFirst
        if said["type"] == "known":
            return Result(said["outcome"], said["output"], known=True)
        try:
            result = Result("done", act())
        except NotDone as error:
            result = Result("failed", str(error))
        except Exception as error:  # Nobody can say how far it got.
            result = Result("unknown", str(error))
        self._request("returned", call=said["call"], outcome=result.outcome, output=result.output)
        return result

    def finish(self, reply: str | None) -> NoReturn:
        self._tell("finished", reply=reply)
        leave()

    def _tell(self, kind: str, **fields: Any) -> None:
        with self._writing:  # Threads must not mix their lines.
            print(json.dumps({"type": kind, **fields}), flush=True)

    def _request(self, kind: str, **fields: Any) -> dict[str, Any]:
        name = next(self._ids)
        answer = self._answers[name] = queue.Queue()
        self._tell(kind, id=name, **fields)
        said = answer.get()
        if said["type"] == "refused":
            raise Refused(said["reason"])
        return said

    def _read(self) -> None:
        try:
            self._listen()
        except Exception:
            traceback.print_exc()
            leave(1)
        leave()  # Nobody listens any more: the turn was cancelled, or the gateway is gone.

    def _listen(self) -> None:
        for line in sys.stdin:
            said = json.loads(line)
            if said["type"] == "question":
                choice = self._on_question(message(said["message"]))
                self._tell("choose", question_id=said["question_id"], choice=choice)
            elif "id" in said:
                self._answers.pop(said["id"]).put(said)
            with self._news:
                self._has_mail |= said["type"] == "mail_waiting"
                self.finish_now |= said["type"] == "finish_now"
                self._news.notify_all()


def leave(status: int = 0) -> NoReturn:
    """Ends at once, whatever other threads do."""
    os._exit(status)
