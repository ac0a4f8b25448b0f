//! Rules of a server: signatures, replays, numbers, what is resumed and what is lost.

use serde_json::{Value, json};
use tokio::time::timeout;

use super::line::{ENDING_MAX, Heard, Line as _, hear, plain, silent, strange};
use super::posts::{Events, Poster, Signed};
use super::report::Found;
use super::rules::{self, Rule};
use super::{Address, Book, Wants};

type Answer = Result<Found, String>;

/// Whether there is anybody to be checked; a stranger asks, and need not be told anything.
pub(super) async fn reach(address: &Address, wants: &Wants) -> Result<(), String> {
    Poster::new(address, wants)?.reach().await
}

pub(super) async fn check(address: &Address, wants: &Wants, book: &mut Book<'_>) {
    let poster = match Poster::new(address, wants) {
        Ok(poster) => poster,
        Err(wrong) => return book.note(rules::STREAMED, Found::Wrong(wrong)),
    };
    book.begins(rules::UNKNOWN);
    let [unknown, streamed, silent] = whole(&poster, wants).await.unwrap_or_else(|wrong| {
        let unseen = || Found::Open("there was no stream".to_owned());
        [Found::Wrong(wrong), unseen(), unseen()]
    });
    book.note(rules::UNKNOWN, unknown);
    book.note(rules::STREAMED, streamed);
    book.note(rules::SILENT, silent);
    note(book, rules::SIGNED, signed(&poster)).await;
    note(book, rules::STALE, stale(&poster)).await;
    note(book, rules::REPLAYED, replayed(&poster)).await;
    note(book, rules::OLDER, older(&poster)).await;
    note(book, rules::NEWER, newer(&poster)).await;
    note(book, rules::REPEATED, repeated(&poster)).await;
    note(book, rules::STREAM_RESUMED, resumed(&poster, wants)).await;
    note(book, rules::LOST, lost(&poster)).await;
    note(book, rules::CANCELLED, cancelled(&poster)).await;
    note(book, rules::NONSENSE, nonsense(&poster, wants)).await;
}

async fn note(book: &mut Book<'_>, rule: &'static Rule, answer: impl Future<Output = Answer>) {
    book.begins(rule);
    let found = answer.await.unwrap_or_else(Found::Wrong);
    book.note(rule, found);
}

async fn begin<'a>(poster: &'a Poster, turn: &Value) -> Result<Events<'a>, String> {
    Events::of(poster, turn, poster.post(turn).await?, None)
}

/// A whole turn with strange things in it.
async fn whole(poster: &Poster, wants: &Wants) -> Result<[Found; 3], String> {
    let mut events = begin(poster, &strange(plain())).await?;
    let strangers = [
        json!({ "type": "x_later", "id": "nobody", "of": [1, 2] }),
        json!({ "type": "x_later_too" }),
    ];
    // One that has finished already may answer what it likes.
    let _ = events.told(1, &strangers).await;
    events.count(2);
    let heard = hear(&mut events, wants, true).await;
    let found = heard.found(wants);
    if !matches!(heard, Heard::LastWord(_)) {
        let unseen = || Found::Open("it did not come to its last word".to_owned());
        return Ok([found, unseen(), unseen()]);
    }
    let quiet = silent(&mut events).await;
    let streamed = match (&events.misnumbered, events.last_id) {
        (Some(wrong), _) => Found::Wrong(wrong.clone()),
        (None, Some(last)) => Found::Right(format!("{last} events")),
        (None, None) => Found::Right("without numbers, so nothing can be resumed".to_owned()),
    };
    Ok([found, streamed, quiet])
}

/// One of these statuses, or what came instead.
fn expect(what: &str, status: u16, right: &[u16]) -> Answer {
    if right.contains(&status) {
        return Ok(Found::Right(format!("{status} to {what}")));
    }
    Err(format!("it answered {status} to {what}"))
}

async fn sent(poster: &Poster, body: &Value, signed: Signed) -> Result<u16, String> {
    let name = format!("check_{}", uuid::Uuid::now_v7());
    Ok(poster.send(&name, body.to_string(), signed).await?.status().as_u16())
}

async fn signed(poster: &Poster) -> Answer {
    expect("no signature", sent(poster, &plain(), Signed::NotAtAll).await?, &[401, 403])?;
    let status = sent(poster, &plain(), Signed::WithAnother).await?;
    expect("the signature of another secret", status, &[401, 403])
}

async fn stale(poster: &Poster) -> Answer {
    let status = sent(poster, &plain(), Signed::Away(600)).await?;
    expect("a timestamp that lies ahead", status, &[401, 403])?;
    let status = sent(poster, &plain(), Signed::Away(-600)).await?;
    expect("an old timestamp", status, &[401, 403])
}

async fn replayed(poster: &Poster) -> Answer {
    let (name, body) = (format!("check_{}", uuid::Uuid::now_v7()), plain().to_string());
    let _first = poster.send(&name, body.clone(), Signed::Rightly).await?;
    let again = poster.send(&name, body, Signed::Rightly).await?.status().as_u16();
    expect("the same turn again", again, &[409])?;
    let events = begin(poster, &plain()).await?;
    let mut resume = events.about("resume");
    resume["last_event_id"] = 0.into();
    let (name, body) = (format!("check_{}", uuid::Uuid::now_v7()), resume.to_string());
    let first = poster.send(&name, body.clone(), Signed::Rightly).await?;
    if matches!(first.status().as_u16(), 404 | 409 | 410) {
        // It resumes nothing, so nobody gains by asking for it again.
        return Ok(Found::Right("409 to the same turn again".to_owned()));
    }
    let again = poster.send(&name, body, Signed::Rightly).await?.status().as_u16();
    expect("the same resume again", again, &[409])
}

async fn older(poster: &Poster) -> Answer {
    let mut turn = plain();
    turn["attempt"] = 2.into();
    let _events = begin(poster, &turn).await?;
    expect("attempt 2 again", poster.post(&turn).await?.status().as_u16(), &[409])?;
    turn["attempt"] = 1.into();
    expect("attempt 1 after 2", poster.post(&turn).await?.status().as_u16(), &[409])
}

/// As after a crash of the gateway: nobody tells the older one that it is over.
async fn newer(poster: &Poster) -> Answer {
    let mut turn = plain();
    let older = begin(poster, &turn).await?;
    let mut resume = older.about("resume");
    resume["last_event_id"] = 0.into();
    turn["attempt"] = 2.into();
    let _newer = begin(poster, &turn).await?;
    let status = poster.post(&resume).await?.status().as_u16();
    expect("resume of the older one", status, &[404, 409, 410])
}

/// One that has finished meanwhile may answer what it likes, as long as it is an answer.
async fn repeated(poster: &Poster) -> Answer {
    let mut events = begin(poster, &plain()).await?;
    let objects = [json!({ "type": "x_later" })];
    let first = events.told(1, &objects).await?;
    let again = events.told(1, &objects).await?;
    if first.is_success() && again.is_success() {
        return Ok(Found::Right(format!("{} and {}", first.as_u16(), again.as_u16())));
    }
    let is_over = timeout(ENDING_MAX, hear_out(&mut events)).await.is_ok();
    let came = format!("it answered {} and {}", first.as_u16(), again.as_u16());
    match is_over && !first.is_server_error() && !again.is_server_error() {
        true => Ok(Found::Open(format!("it had finished before: {came}"))),
        false => Err(came),
    }
}

async fn hear_out(events: &mut Events<'_>) {
    while let Ok(Some(_)) = events.next().await {}
}

/// The first event is heard, then the connection breaks.
async fn resumed(poster: &Poster, wants: &Wants) -> Answer {
    let turn = plain();
    let mut events = begin(poster, &turn).await?;
    let first = timeout(wants.timeout, events.next()).await;
    let Ok(first) = first else { return Ok(Found::Open("it said nothing in time".to_owned())) };
    let _ = first?;
    let Some(last) = events.last_id else {
        return Ok(Found::Open("its events have no numbers".to_owned()));
    };
    let mut resume = events.about("resume");
    drop(events);
    // As if the first event had been lost as well.
    resume["last_event_id"] = (last - 1).into();
    let response = poster.post(&resume).await?;
    let status = response.status().as_u16();
    if matches!(status, 404 | 409 | 410) {
        return Ok(Found::Right(format!("it doesn't have it any more: {status}")));
    }
    let mut events = Events::of(poster, &turn, response, last.checked_sub(1).filter(|at| *at > 0))?;
    let heard = hear(&mut events, wants, false).await;
    if let Some(wrong) = events.misnumbered {
        return Err(wrong);
    }
    Ok(match heard.found(wants) {
        Found::Right(_) => Found::Right("it went on where it was".to_owned()),
        other => other,
    })
}

async fn lost(poster: &Poster) -> Answer {
    let turn_id = uuid::Uuid::now_v7().to_string();
    let mut object = json!({
        "type": "resume", "turn_id": turn_id, "attempt": 1, "last_event_id": 0,
    });
    let resume = poster.post(&object).await?.status().as_u16();
    expect("resume", resume, &[404, 409, 410])?;
    object = json!({
        "type": "told", "turn_id": turn_id, "attempt": 1, "first": 1,
        "objects": [{ "type": "mail_waiting" }],
    });
    let told = poster.post(&object).await?.status().as_u16();
    expect("told", told, &[404, 409, 410])?;
    Ok(Found::Right(format!("{resume} to resume, {told} to told")))
}

async fn cancelled(poster: &Poster) -> Answer {
    let events = begin(poster, &plain()).await?;
    let (cancelled, mut resume) = (events.about("cancelled"), events.about("resume"));
    resume["last_event_id"] = 0.into();
    drop(events);
    let status = poster.post(&cancelled).await?.status();
    if !status.is_success() {
        return Err(format!("it answered {} to cancelled", status.as_u16()));
    }
    let after = poster.post(&resume).await?.status().as_u16();
    expect("resume after it", after, &[404, 409, 410])
}

/// What no gateway sends, and a plain turn behind it.
async fn nonsense(poster: &Poster, wants: &Wants) -> Answer {
    let name = format!("check_{}", uuid::Uuid::now_v7());
    let broken = poster.send(&name, "{\"type\": \"turn\", \"mess".to_owned(), Signed::Rightly);
    let status = broken.await?.status();
    if !status.is_client_error() {
        return Err(format!("it answered {} to what is no JSON", status.as_u16()));
    }
    let strange = json!({ "type": "x_later", "turn_id": "x", "attempt": 1 });
    let other = poster.post(&strange).await?.status();
    if !other.is_client_error() {
        return Err(format!("it answered {} to an unknown type", other.as_u16()));
    }
    let mut events = begin(poster, &plain()).await?;
    Ok(match hear(&mut events, wants, false).await.found(wants) {
        Found::Right(_) => Found::Right(format!("{}, {}", status.as_u16(), other.as_u16())),
        Found::Wrong(wrong) => Found::Wrong(format!("it broke over it: {wrong}")),
        open @ Found::Open(_) => open,
    })
}
