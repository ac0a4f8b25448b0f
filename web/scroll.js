// Keeps the log at its end while the reader is there, and leaves it alone when they scrolled up.

const NEAR_END_PX = 60;

export class ScrollKeeper {
  #log;
  #jump;
  #stick = true;

  constructor(log, jump) {
    this.#log = log;
    this.#jump = jump;
    log.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    jump.addEventListener("click", () => {
      this.toEnd();
      log.focus({ preventScroll: true });
    });
    // The keyboard of a phone, a growing message box or a wide code block: the end stays in sight.
    new ResizeObserver(() => this.settle(false)).observe(log);
  }

  /** After a change: stays at the end, or offers the way there if there is something new. */
  settle(added) {
    if (this.#stick) this.#log.scrollTop = this.#log.scrollHeight;
    else if (added) this.#jump.hidden = false;
  }

  toEnd() {
    this.#stick = true;
    this.#jump.hidden = true;
    this.#log.scrollTop = this.#log.scrollHeight;
  }

  #scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.#log;
    this.#stick = scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
    if (this.#stick) this.#jump.hidden = true;
  }
}
