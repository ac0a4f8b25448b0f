//! Whether somebody who was asked for a yes said so.
//!
//! One table for all languages, because nobody tells which one an answer is in. It is made so that
//! a mistake costs a second question, never an act that nobody wanted: a no anywhere is a no, and a
//! yes is one only where nothing else is said than that.

use turnkeep_core::message::MessageBody;

/// What an answer amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Consent {
    /// Go ahead, and nothing else.
    Yes,
    /// A no stands in it, or a "wait".
    No,
    /// Something that has to be read: a question back, a yes with a condition, a longer text.
    Words,
    /// Neither a yes nor a no, and nothing much else.
    Unclear,
}

/// Phrases between bars. Each of them, alone or with others and with what [`BESIDE`] holds, is a yes.
const YES: &[&str] = &[
    // English
    "yes|y|yep|yeah|yup|aye|ok|okay|k|kk|okey|sure|sure thing|of course|certainly",
    "definitely|absolutely|allow|allow it|allowed|approve|approve it|approved|agreed",
    "confirm|confirmed|accepted|granted|proceed|go|go ahead|go for it|do|do it|do that",
    "do so|please do|fine|sounds good|looks good|alright|all right|you may",
    "that's ok|that's fine|make it so",
    // German
    "ja|jo|jep|jap|jup|jawohl|jawoll|klar|na klar|natürlich|gern|gerne|erlaubt",
    "einverstanden|genehmigt|freigegeben|bestätigt|in ordnung|passt|passt so|geht klar|mach",
    "mach das|mach es|mach mal|mach's|machs|tu es|tu das|leg los|los|nur zu|du darfst",
    "sie dürfen|auf jeden fall",
    // Spanish
    "sí|si|vale|claro|claro que sí|claro que si|por supuesto|de acuerdo|adelante|hazlo",
    "hágalo|dale|venga|está bien|esta bien|perfecto|confirmo|confirmado|permitido|aprobado",
    // French
    "oui|ouais|ouaip|d'accord|daccord|bien sûr|bien sur|vas y|allez y|fais le|faites le",
    "c'est bon|ça marche|ca marche|parfait|volontiers|entendu|je confirme|confirmé|autorisé",
    "permis",
    // Italian
    "sì|va bene|certo|certo che sì|certo che si|certamente|d'accordo|procedi|proceda|fallo",
    "lo faccia|fai pure|faccia pure|volentieri|perfetto|confermo|confermato|permesso",
    "approvato",
    // The plain word of others
    "sim|tak|ano|igen|da|да|evet|はい|はいお願いします|好|好的|是|是的|可以|네|예|응",
    // Signs
    "👍|👌|✅|✔|☑|🆗|💯",
];

/// What may stand beside a yes and changes nothing.
const BESIDE: &[&str] = &[
    "please|pls|plz|thanks|thank you|thx|ty|then|now|it|that|i do|bitte|bitte sehr|danke",
    "danke schön|dann|jetzt|doch|mal|gleich|por favor|gracias|muchas gracias|ahora|entonces",
    "s'il te plaît|s'il vous plaît|s'il te plait|s'il vous plait|stp|svp|merci|maintenant",
    "alors|per favore|per piacere|grazie|adesso|ora|allora|pure|お願いします|🙏|😊|🙂|😀|😃|😄|😁|❤|🎉",
];

/// Each of them anywhere is a no, whatever else is said.
const NO: &[&str] = &[
    "no|n|nope|nah|not|never|none|nothing|neither|dont|cant|wont|cannot|without|refuse",
    "refused|deny|denied|forbid|forbidden|reject|rejected|nein|nee|nö|ne|nicht|nichts|nie",
    "niemals|nimmer|kein|keine|keinen|keinem|keiner|keines|keinesfalls|keineswegs|ohne",
    "untersagt|verboten|abgelehnt|nunca|jamás|jamas|tampoco|nada|ningún|ningun|ninguno",
    "ninguna|sin|prohibido|rechazado|non|pas|jamais|aucun|aucune|rien|nullement|sans",
    "interdit|refusé|mai|niente|nulla|nessun|nessuno|nessuna|neanche|nemmeno|senza|vietato",
    "rifiutato|não|nao|nem|nej|nei|niet|ei|нет|не|hayır|hayir|👎|❌|✖|🚫|⛔|🛑|✋|🙅",
];

/// The same for writing that does not part its words.
const NO_WITHIN: &[&str] = &["いいえ|ません|ないで|だめ|ダメ|不|没|別|别|否|아니|안돼|하지"];

/// Each of them is a no where no yes is said: "yes, cancel it" may be just what was asked for.
const HALT: &[&str] = &[
    "stop|cancel|abort|wait|hold on|hang on|later|stopp|halt|abbrechen|abbruch|warte|warten",
    "moment|später|para|espera|espere|cancela|cancelar|después|despues|arrête|arrete",
    "arrêtez|attends|attendez|annule|annuler|annulez|plus tard|ferma|fermati|aspetta",
    "aspetti|annulla|annullare|più tardi|piu tardi|dopo",
];

/// A text without a yes or a no that is longer is something to read, in words.
const UNCLEAR_WORDS_MAX: usize = 3;

/// What was said, without what stands before it: who said it and whom they named, in a group, and
/// what they quoted. A name is nobody's yes or no, and a question quoted is no answer to it.
pub(super) fn bare(body: &MessageBody, in_group: bool) -> String {
    let said = &*body.text;
    // Only a message that was heard in a group has its author in its name, and before its text.
    let named = in_group && body.message_id.contains('/');
    let said = match said.split_once(": ") {
        Some((_, said)) if named => said,
        _ => said,
    };
    let said = match said.strip_prefix("> ").and_then(|quoted| quoted.split_once('\n')) {
        Some((_, said)) => said.trim_start(),
        None => said,
    };
    match said.split_once(char::is_whitespace) {
        Some((mention, said)) if named && mention.starts_with('@') => said.trim().to_owned(),
        _ => said.to_owned(),
    }
}

/// What an answer amounts to.
pub(super) fn of(answer: &str) -> Consent {
    let answer = answer.to_lowercase().replace(['’', '‘', '´', '`', 'ʼ'], "'");
    let words = words(&answer);
    let negates = |word: &&str| {
        phrases(NO).any(|no| no == *word) || word.ends_with("n't") || word.starts_with("n'")
    };
    if words.iter().any(negates) || phrases(NO_WITHIN).any(|part| answer.contains(part)) {
        return Consent::No;
    }
    if answer.contains(['?', '？', '؟', '¿', '⁉', '❓', '❔']) {
        return Consent::Words;
    }
    let (mut rest, mut yes, mut strange, mut halts) = (&words[..], false, 0, false);
    while let Some((_, behind)) = rest.split_first() {
        let (kind, length) = longest(rest);
        match kind {
            Some(Kind::Yes) => yes = true,
            Some(Kind::Halt) => halts = true,
            Some(Kind::Beside) => {}
            None => strange += 1,
        }
        rest = rest.get(length..).unwrap_or(behind);
    }
    match (yes, halts, strange) {
        (true, false, 0) => Consent::Yes,
        (true, ..) => Consent::Words,
        (false, true, _) => Consent::No,
        (false, false, 0..=UNCLEAR_WORDS_MAX) => Consent::Unclear,
        (false, false, _) => Consent::Words,
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Yes,
    Halt,
    Beside,
}

/// The phrases of a table.
fn phrases(table: &'static [&'static str]) -> impl Iterator<Item = &'static str> {
    table.iter().flat_map(|line| line.split('|'))
}

/// The longest phrase of the tables that these words begin with, and how many words it has.
fn longest(words: &[&str]) -> (Option<Kind>, usize) {
    let mut found = (None, 1);
    for (kind, table) in [(Kind::Yes, YES), (Kind::Halt, HALT), (Kind::Beside, BESIDE)] {
        for phrase in phrases(table) {
            let length = phrase.split(' ').count();
            let longer = found.0.is_none() || length > found.1;
            if longer
                && length <= words.len()
                && phrase.split(' ').eq(words[..length].iter().copied())
            {
                found = (Some(kind), length);
            }
        }
    }
    found
}

/// Words and signs, without what only parts or colours them.
fn words(answer: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut begin = None;
    for (at, char) in answer.char_indices() {
        let in_word = char.is_alphanumeric() || char == '\'';
        match (in_word, begin) {
            (true, None) => begin = Some(at),
            (false, Some(from)) => {
                words.extend(word(&answer[from..at]));
                begin = None;
            }
            _ => {}
        }
        if !in_word && !parts(char) {
            words.push(&answer[at..at + char.len_utf8()]);
        }
    }
    words.extend(begin.and_then(|from| word(&answer[from..])));
    words
}

/// A word without the marks around it.
fn word(text: &str) -> Option<&str> {
    Some(text.trim_matches('\'')).filter(|word| !word.is_empty())
}

/// What stands between words, or only changes how a sign looks.
fn parts(char: char) -> bool {
    char.is_whitespace()
        || char.is_control()
        || char.is_ascii_punctuation()
        || matches!(char, '¡' | '…' | '–' | '—' | '„' | '“' | '”' | '«' | '»' | '。' | '、' | '，'
            | '！' | '・' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}'
            | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{1F3FB}'..='\u{1F3FF}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_says_it_and_what_is_quoted_are_no_part_of_an_answer() {
        let check = |id: &str, in_group: bool, text: &str, expect: Consent| {
            let body =
                MessageBody { message_id: id.into(), text: text.into(), ..Default::default() };
            assert_eq!(of(&bare(&body, in_group)), expect, "{text:?}");
        };
        // Their names mean yes somewhere.
        check("1/uuid-j", true, "Jo: thanks", Consent::Unclear);
        check("1/uuid-d", true, "Dale: please", Consent::Unclear);
        check("1/uuid-o", true, "Ok: 🙂", Consent::Unclear);
        check("1/uuid-n", true, "Nada: yes", Consent::Yes);
        check("1/uuid-c", true, "Carol: yes", Consent::Yes);
        check("1/uuid-c", true, "Carol: @+49151 yes", Consent::Yes);
        check("1/uuid-c", true, "Carol: > May I? yes or no\n  yes", Consent::Yes);
        check("1/uuid-c", true, "Carol: > May I? yes or no\n  no", Consent::No);
        check("1", false, "> May I? Reply \"no\" to refuse it.\nyes", Consent::Yes);
        check("1", false, "> yes\nno", Consent::No);
        // Where nothing was put before it, all of it was said.
        check("1", true, "no: yes", Consent::No);
        check("1/x", false, "no: yes", Consent::No);
    }

    fn check(expect: Consent, answers: &[&str]) {
        for answer in answers {
            assert_eq!(of(answer), expect, "{answer}");
        }
    }

    #[test]
    fn a_yes_is_one_in_many_words() {
        check(
            Consent::Yes,
            &[
                "yes",
                " Yes! ",
                "YES.",
                "yes please",
                "Yes, please!",
                "yes, do it",
                "yes do it now",
                "ok",
                "OK",
                "Okay, thanks.",
                "go ahead",
                "Sure, go ahead, thank you",
                "please do",
                "do it",
                "👍",
                "👍🏽",
                "👍👍",
                "👍 👍🏿 !",
                "✅",
                "✔️",
                "yes 🙏",
                "Ja!",
                "ja bitte",
                "Ja, bitte.",
                "ja gerne",
                "Na klar",
                "mach das",
                "mach’s",
                "In Ordnung",
                "JA JA",
                "sí",
                "Sí, por favor",
                "si",
                "claro que sí",
                "de acuerdo, gracias",
                "¡Adelante!",
                "oui",
                "Oui, s’il vous plaît",
                "d’accord",
                "vas-y",
                "allez-y !",
                "fais-le",
                "c'est bon",
                "sì",
                "Sì, per favore",
                "va bene",
                "certo, fai pure",
                "d’accordo",
                "Да",
                "はい",
                "好的",
                "'yes'",
                "\"yes\"",
                "“yes”",
            ],
        );
    }

    #[test]
    fn a_no_anywhere_is_a_no() {
        check(
            Consent::No,
            &[
                "no",
                "n",
                "No!",
                "not ok",
                "yes, no",
                "ja nein",
                "please don't",
                "please don’t do it",
                "dont",
                "yes, why not",
                "no problem",
                "never",
                "nope",
                "👎",
                "👎🏻",
                "👍👎",
                "ok ❌",
                "nein",
                "Nein danke",
                "bitte nicht",
                "auf keinen Fall",
                "ja, aber nicht jetzt",
                "nee",
                "no, gracias",
                "nunca",
                "non",
                "pas maintenant",
                "surtout n'y touche pas",
                "n'essaie",
                "non, grazie",
                "mai",
                "нет",
                "不好",
                "不要",
                "いいえ",
                "やりません",
                "아니요",
                "não",
                "stop",
                "wait",
                "Warte!",
                "later",
                "später",
                "espera",
                "attends un peu",
                "aspetta",
                "cancel",
                "hold on a second",
                "shouldn't you ask her first?",
            ],
        );
    }

    #[test]
    fn what_says_more_has_to_be_read() {
        check(
            Consent::Words,
            &[
                "yes, but only half",
                "yes?",
                "ok?",
                "which order?",
                "¿qué?",
                "yes 5",
                "yes, cancel it",
                "ok, and order 18 too",
                "ja, aber erst morgen",
                "please send it to my new address",
            ],
        );
    }

    #[test]
    fn anything_else_is_unclear() {
        check(
            Consent::Unclear,
            &[
                "",
                "!",
                "…",
                "hm",
                "hmm maybe",
                "vielleicht",
                "please",
                "bitte",
                "asdf",
                "🤔",
                "thanks",
                "17",
            ],
        );
    }

    #[test]
    fn tables_hold_words_as_answers_are_read() {
        for phrase in [YES, HALT, BESIDE, NO].into_iter().flat_map(phrases) {
            let read = words(phrase).join(" ");
            assert_eq!(read, phrase);
            assert_eq!(phrase.to_lowercase(), phrase);
        }
        for (at, phrase) in phrases(YES).enumerate() {
            assert_eq!(of(phrase), Consent::Yes, "{phrase}");
            assert!(!phrases(YES).take(at).any(|other| other == phrase), "{phrase} twice");
        }
        for phrase in [NO, HALT, NO_WITHIN].into_iter().flat_map(phrases) {
            assert_eq!(of(phrase), Consent::No, "{phrase}");
        }
    }
}
