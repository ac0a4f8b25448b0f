//! Rules of a turn: it finishes, takes mail or leaves it, answers questions, ends when it is asked to,
//! and works beside others.

use std::time::Duration;

use futures_util::future::join_all;
use turnkeep_core::session::input::Finished;

use super::Book;
use super::play::{Ended, PLAIN, Play, Run};
use super::report::{Found, shown, word_of};
use super::rules;
use super::stage::{Deed, Script};

/// Turns at once.
const PARALLEL: usize = 4;

pub(super) async fn check(play: &Play<'_>, book: &mut Book<'_>) {
    book.begins(rules::FINISHES);
    let plain = play.run(play.script(PLAIN)).await;
    book.note(rules::FINISHES, plain.found(|finished| right(finished, plain.took)));

    book.begins(rules::MAIL);
    let mail = Some("One more thing: this came meanwhile.".to_owned());
    let run = play.run(Script { mail, ..play.script(PLAIN) }).await;
    book.note(rules::MAIL, run.found(|finished| took_mail(&run, finished)));

    book.begins(rules::QUESTION);
    let question = Some("No, wait: this came meanwhile.".to_owned());
    let run = play.run(Script { question, ..play.script(PLAIN) }).await;
    book.note(rules::QUESTION, chose(&run));

    book.begins(rules::FINISH_NOW);
    let run = play.run(Script { stop: true, ..play.script(PLAIN) }).await;
    book.note(rules::FINISH_NOW, run.found(|finished| right(finished, run.took)));

    book.begins(rules::AGAIN);
    book.note(rules::AGAIN, again(play).await);

    book.begins(rules::PARALLEL);
    book.note(rules::PARALLEL, parallel(play).await);
}

fn right(finished: &Finished, took: Duration) -> Found {
    let time = shown(took);
    Found::Right(match finished.reply.as_deref().filter(|reply| !reply.is_empty()) {
        Some(reply) => format!("{} characters after {time}", reply.chars().count()),
        None => format!("it chose silence after {time}"),
    })
}

fn took_mail(run: &Run, finished: &Finished) -> Found {
    let took = run.deeds.iter().any(|deed| matches!(deed, Deed::TookMail));
    Found::Right(match (took, finished.used) {
        (false, _) => "it left it for the next turn".to_owned(),
        (true, None) => "it took it".to_owned(),
        (true, Some(used)) => format!("it took it, and used everything up to {used}"),
    })
}

/// No answer is no mistake: then the message joins the turn, or waits.
fn chose(run: &Run) -> Found {
    let chose = run.deeds.iter().find_map(|deed| match deed {
        Deed::Chose(choice) => Some(choice),
        _ => None,
    });
    match (chose, &run.ended) {
        // It need not end once it has said that it should start over, but may not break anything.
        (_, Ended::Failed(failure)) => Found::Wrong(failure.error.to_string()),
        (Some(choice), _) => Found::Right(format!("{} after {}", word_of(choice), shown(run.took))),
        (None, Ended::Finished(_)) => Found::Open(
            "it said nothing before it finished; the message joins the turn or waits then".into(),
        ),
        (None, _) => run.found(|finished| right(finished, run.took)),
    }
}

/// The first attempt is given up in the middle, as after a crash.
async fn again(play: &Play<'_>) -> Found {
    let first = play.script(PLAIN);
    let (turn, begun) = (first.turn, play.run(first));
    // It has been begun, and nobody waits for it.
    let _ = tokio::time::timeout(play.wants.timeout.min(Duration::from_millis(200)), begun).await;
    let run = play.run(Script { turn, attempt: 2, ..play.script(PLAIN) }).await;
    run.found(|finished| right(finished, run.took))
}

/// A word that nobody else says; without digits, which may mean something to a brain.
fn word() -> String {
    let letter = |digit: char| char::from(b'a' + digit.to_digit(16).unwrap_or_default() as u8);
    uuid::Uuid::now_v7().simple().to_string().chars().map(letter).collect()
}

/// Each message has a word of its own, which no other reply may hold.
async fn parallel(play: &Play<'_>) -> Found {
    let words: Vec<String> = (0..PARALLEL).map(|_| word()).collect();
    let one = |word: &String| play.run(play.script(&format!("{PLAIN} Its name is {word}.")));
    let runs = join_all(words.iter().map(one)).await;
    for (run, own) in runs.iter().zip(&words) {
        let found = run.found(|finished| {
            let reply = finished.reply.as_deref().unwrap_or_default();
            match words.iter().any(|word| word != own && reply.contains(word)) {
                true => Found::Wrong("a reply holds what another turn was asked".to_owned()),
                false => right(finished, run.took),
            }
        });
        if !matches!(found, Found::Right(_)) {
            return found;
        }
    }
    let took = runs.iter().map(|run| run.took).max().unwrap_or_default();
    Found::Right(format!("{PARALLEL} turns after {}", shown(took)))
}
