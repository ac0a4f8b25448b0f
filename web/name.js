// What may be somebody's name. Pure.

/** The bound of a session key's segment. */
const NAME_BYTES_MAX = 128;
/** What takes no room or shows as a gap. Joiners are left: they make letters and pictures of others. */
const UNSEEN = /(?![\u200C\u200D\uFE0E\uFE0F])[\p{Cc}\p{Default_Ignorable_Code_Point}\u2028\u2029\u2800\uFFF9-\uFFFC]/gu;
/** A joiner that stands at an end or at a gap joins nothing. */
const STRAY = /(?<!\S)[\u200C\u200D\uFE0E\uFE0F]+|[\u200C\u200D]+(?!\S)/gu;

/** Alike-looking spellings are one person, and invisible characters are nobody. */
export function cleanName(text) {
  return text.normalize("NFC").replace(UNSEEN, "").replace(STRAY, "").trim();
}

/** What is wrong with a cleaned name, in words for whoever chose it. */
export function nameTrouble(name) {
  if (!name) return "Please write a name: something must be visible in it.";
  if (new TextEncoder().encode(name.replace(/[%:]/g, "%25")).length > NAME_BYTES_MAX) return "Please choose a shorter name.";
  return "";
}
