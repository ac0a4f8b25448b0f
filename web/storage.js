// What this tab remembers over a reload. sessionStorage belongs to one tab, so two tabs are two
// people. Where it is full or forbidden the page works on and only a reload forgets.

export function remembered(key) {
  try {
    return sessionStorage.getItem(key) ?? "";
  } catch {
    return "";
  }
}

/** What somebody who signs out leaves behind is nobody's. */
export function forgetAll() {
  try {
    sessionStorage.clear();
  } catch {
    // Then nothing was remembered either.
  }
}

/** An empty text forgets the key. */
export function remember(key, text) {
  try {
    if (text) sessionStorage.setItem(key, text);
    else sessionStorage.removeItem(key);
  } catch {
    // Nothing to do: the page itself still holds what was to be remembered.
  }
}
