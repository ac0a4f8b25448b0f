// The box one writes in: keys, growth, the typing signal, and keeping what is half written.

import { sessionKey, tellTyping } from "./api.js";
import { remember, remembered } from "./storage.js";

/** The signal extends the gathering window; more often than this tells the server nothing. */
const TYPING_INTERVAL_MS = 2_000;

export class Composer {
  #name;
  #form;
  #input;
  #send;
  #storageKey;
  #toldAt = 0;

  /** Calls `onSend(text)` with what is to be sent. */
  constructor(form, input, send, onSend) {
    this.#form = form;
    this.#input = input;
    this.#send = send;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const text = input.value.trim();
      if (!text) return;
      this.set("");
      input.focus();
      onSend(text);
    });
    input.addEventListener("keydown", (event) => this.#keyPressed(event));
    input.addEventListener("input", () => this.#edited());
  }

  /** Begins to write as `name`, with what this name had half written in this tab. */
  open(name) {
    this.#name = name;
    this.#storageKey = `turnkeep.composer.${sessionKey(name)}`;
    this.set(remembered(this.#storageKey));
    this.#input.focus();
  }

  set(text) {
    this.#input.value = text;
    this.#changed();
  }

  /** Puts a text back without losing what is being written. */
  putBack(text) {
    this.set(this.#input.value.trim() ? `${text}\n${this.#input.value}` : text);
    this.#input.focus();
  }

  ask(placeholder) {
    if (this.#input.placeholder !== placeholder) this.#input.placeholder = placeholder;
  }

  focus() {
    this.#input.focus();
  }

  #keyPressed(event) {
    // While an input method composes, Enter chooses a candidate.
    const composing = event.isComposing || event.keyCode === 229;
    if (event.key !== "Enter" || event.shiftKey || event.altKey || composing) return;
    event.preventDefault();
    this.#form.requestSubmit();
  }

  #edited() {
    this.#changed();
    const now = Date.now();
    if (!this.#input.value.trim() || now - this.#toldAt < TYPING_INTERVAL_MS) return;
    this.#toldAt = now;
    tellTyping(this.#name);
  }

  #changed() {
    const text = this.#input.value;
    this.#send.disabled = !text.trim();
    if (!CSS.supports("field-sizing", "content")) {
      this.#input.style.height = "auto";
      this.#input.style.height = `${this.#input.scrollHeight}px`;
    }
    remember(this.#storageKey, text);
  }
}
