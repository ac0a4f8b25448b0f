#!/usr/bin/env python3
"""Makes the screens of docs/terminal.md anew, from the real terminal in tmux.

Needs a built `turnkeep` (target/debug, or $TURNKEEP), tmux and python3. Pictures go to docs/images,
texts into the blocks of the page that follow a line `<!-- screen NAME -->`.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = os.environ.get("TURNKEEP", str(ROOT / "target/debug/turnkeep"))
PAGE = ROOT / "docs/terminal.md"
PATIENCE_S = 30

CONFIG = """
listen = "127.0.0.1:0"
log_level = "warn"
[agents.default]
kind = "command"
command = ["python3", "helper.py"]
[agents.slow]
kind = "echo"
stream = true
delay_ms = 600000
[agents.careful]
kind = "command"
command = ["python3", "careful.py"]
"""

HELPER = '''
from brain import run

ANSWER = """The loop never ends because `next` is read **before** it is set:

```rust
while let Some(page) = next.take() {
    next = page.fetch().await?.next;
}
```

1. `take()` leaves nothing behind, so the last page ends the loop.
2. The test `pages_end` fails without it. See <https://example.org/pages>."""

def answer(turn):
    turn.say(ANSWER)
    return ANSWER

run(answer)
'''

CAREFUL = '''
from brain import run

def answer(turn):
    said = turn.ask("May I delete the branch old-api?", confirm=True)
    yes = said.text.strip().lower() in ("y", "yes")
    return "The branch old-api is deleted." if yes else "I left it alone."

run(answer)
'''


class Terminal:
    def __init__(self, home: Path, columns: int, rows: int, *flags: str) -> None:
        self.home, self.dir = home, tempfile.mkdtemp()
        self.env = environment(home) | {"TERM": "xterm-256color", "TMUX_TMPDIR": self.dir}
        self.tmux("set-option", "-g", "remain-on-exit", "on", ";",
                  "set-option", "-g", "status", "off", ";",
                  "new-session", "-d", "-x", str(columns), "-y", str(rows), "--",
                  PROGRAM, "attach", *flags)
        atexit.register(self.close)

    def tmux(self, *args: str) -> str:
        command = ["tmux", "-u", "-f", "/dev/null", *args]
        return subprocess.run(command, env=self.env, cwd=self.home, check=True,
                              capture_output=True, text=True).stdout

    def enter(self, text: str) -> None:
        self.tmux("send-keys", "-l", "--", text)
        self.press("Enter")

    def press(self, key: str) -> None:
        self.tmux("send-keys", key)

    def shows(self, *texts: str) -> str:
        end = time.monotonic() + PATIENCE_S
        while True:
            screen = self.tmux("capture-pane", "-p")
            if all(text in screen for text in texts):
                return screen
            if time.monotonic() > end:
                sys.exit(f"it never shows {texts}:\n{screen}")
            time.sleep(0.05)

    def draw(self, name: str) -> None:
        screen = self.tmux("capture-pane", "-p", "-e")
        drawn = subprocess.run([ROOT / "scripts/terminal-picture.py"], input=screen, check=True,
                               capture_output=True, text=True).stdout
        (ROOT / f"docs/images/{name}.svg").write_text(drawn, encoding="utf-8")

    def close(self) -> None:
        command = ["tmux", "kill-server"]
        subprocess.run(command, env=self.env, check=False, capture_output=True)
        shutil.rmtree(self.dir, ignore_errors=True)


def environment(home: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"], "HOME": str(home), "USER": "anna", "TZ": "UTC",
        "LANG": "C.UTF-8", "XDG_RUNTIME_DIR": str(home),
        "TURNKEEP_CONFIG": str(home / "turnkeep.toml"), "TURNKEEP_DATA_DIR": str(home / "data"),
    }


def serve(home: Path) -> subprocess.Popen[str]:
    server = subprocess.Popen([PROGRAM, "serve"], env=environment(home), cwd=home, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    atexit.register(server.kill)
    assert server.stdout is not None and server.stdout.readline().startswith("listening")
    return server


def put(page: str, name: str, screen: str) -> str:
    text = "\n".join(line.rstrip() for line in screen.rstrip("\n").split("\n"))
    block = re.compile(rf"(<!-- screen {name} -->\n\n```text\n).*?(```\n)", re.DOTALL)
    page, found = block.subn(lambda match: match[1] + text + "\n" + match[2], page)
    if not found:
        sys.exit(f"{PAGE} has no block for the screen {name}")
    return page


def main() -> None:
    home = Path(tempfile.mkdtemp())
    (home / "turnkeep.toml").write_text(CONFIG)
    (home / "helper.py").write_text(HELPER)
    (home / "careful.py").write_text(CAREFUL)
    shutil.copy(ROOT / "examples/brains/python/brain.py", home)
    page = PAGE.read_text(encoding="utf-8")
    server = serve(home)
    wide = Terminal(home, 100, 28)
    wide.shows("nobody waits for you")
    for line, sign in [
        ("/new api work --agent slow", "1 \"api work\""), ("rewrite the tests", "» works"),
        ("/new branches --agent careful", "2 branches"), ("tidy up", "y or n"),
        ("/new endless loop", "3 \"endless loop\""),
        ("why does my loop over the pages never end?", "The test `pages_end` fails"),
    ]:
        wide.enter(line)
        wide.shows(sign)
    wide.shows("1 waits for you")
    wide.draw("terminal")
    small = Terminal(home, 80, 24)
    small.shows("1 waits for you")
    small.enter("/switch branches")
    page = put(page, "approval", small.shows("y or n: May I delete the branch old-api?", "! approve"))
    narrow = Terminal(home, 40, 12)
    narrow.shows("1 wait")
    narrow.enter("/switch endless loop")
    page = put(page, "narrow", narrow.shows("3 \"endless loop\"", "pages_end"))
    server.kill()
    server.wait()
    small.shows("connection lost")
    small.enter("y")
    page = put(page, "lost", small.shows("connection lost", "not sent yet"))
    PAGE.write_text(page, encoding="utf-8")
    shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
