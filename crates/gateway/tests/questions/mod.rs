//! What agents ask their user, through the real gateway over SQLite: across a restart, two at once,
//! and at the end of a turn.

use std::path::Path;

use turnkeep_core::outbox::DeliveryOutcome;
use turnkeep_core::policy::channel_facts;
use turnkeep_core::ports::agent::Declined;
use turnkeep_core::ports::channel::Outgoing;

use super::kit::Noted;
use super::*;

type Sent = Arc<Mutex<Vec<Outgoing>>>;

/// A process over this folder, whose agent asks for a yes with the next of these words.
async fn process(folder: &Path, words: &Arc<Mutex<Vec<&'static str>>>, sent: &Sent) -> Gateway {
    let agent = agent(words, |turn, words| async move {
        let asked = words.lock().unwrap().remove(0);
        match turn.handle.confirm(asked).await.unwrap() {
            Some(answer) => reply(&format!("you said {}", answer.body.text)),
            None => reply("mail first"),
        }
    });
    let store = SqliteStore::open(folder, SqliteOptions::default()).unwrap();
    let mut parts = parts(Arc::new(store), agent, |_| {});
    let facts = *channel_facts("sms").unwrap();
    let noted = Noted { facts, sent: Arc::clone(sent), outcome: |_| DeliveryOutcome::Sent };
    parts.channels.insert("sms".to_owned(), Arc::new(noted));
    started(parts).await
}

/// What the user was sent, and how often the journal has a question, where the process ends between
/// question and answer, and the next one asks in these words.
async fn check(words: [&'static str; 2], answers: &[&str]) -> (Vec<String>, usize) {
    let folder = tempfile::tempdir().unwrap();
    let (words, sent) = (Arc::new(Mutex::new(words.to_vec())), Sent::default());
    let first = process(folder.path(), &words, &sent).await;
    let asked = answered(&first, says("anna", "sms", "pay it back")).await;
    assert_eq!(asked.status, TurnStatus::WaitingForInput);
    assert_eq!(&*asked.asked.unwrap().text, "May I pay 17 back?");
    first.drain().await;
    first.store().close().await;
    drop(first);
    let second = process(folder.path(), &words, &sent).await;
    let mut settled = None;
    for answer in answers {
        settled = Some(answered(&second, says("anna", "sms", answer)).await);
    }
    let reply = settled.unwrap().reply.unwrap();
    assert_eq!(*reply, format!("you said {}", answers.last().unwrap()));
    let key = "default:default:sms:dm:anna".parse().unwrap();
    let events = history(&second, &key).await;
    let asked = names(&events).iter().filter(|name| **name == "turn.waiting_for_input").count();
    second.drain().await;
    let texts = sent.lock().unwrap().iter().map(|part| part.text.to_string()).collect();
    (texts, asked)
}

#[tokio::test]
async fn a_question_that_was_open_at_a_restart_is_asked_once() {
    let question = "May I pay 17 back?";
    let (sent, asked) = check([question, question], &["yes"]).await;
    assert_eq!((sent, asked), (vec![question.to_owned(), "you said yes".to_owned()], 1));
}

#[tokio::test]
async fn another_question_after_a_restart_needs_an_answer_of_its_own() {
    let (sent, asked) =
        check(["May I pay 17 back?", "May I pay 18 back?"], &["yes", "yes, that too"]).await;
    let all = ["May I pay 17 back?", "May I pay 18 back?", "you said yes, that too"];
    assert_eq!((sent, asked), (all.map(str::to_owned).to_vec(), 2));
}

#[tokio::test]
async fn of_two_questions_at_once_one_is_asked() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let agent = agent(&told, |turn, told| async move {
        let (one, two) = tokio::join!(turn.handle.ask("which?"), turn.handle.ask("when?"));
        told.lock().unwrap().push(two.unwrap_err());
        // And when it was answered, there may be another one.
        let again = turn.handle.ask("sure?").await.unwrap();
        reply(&format!("{}, {}", one.unwrap().body.text, again.body.text))
    });
    let (gateway, _folder) = over_sqlite(agent, |_| {}).await;
    let asked = ask(&gateway, "buy it").await.asked.unwrap();
    assert_eq!(&*asked.text, "which?");
    assert_eq!(&*ask(&gateway, "the red one").await.asked.unwrap().text, "sure?");
    let answer = ask(&gateway, "yes").await.reply.unwrap();
    assert_eq!(&*answer, "the red one, yes");
    let reason = "the user was asked something and has not answered yet";
    assert_eq!(*told.lock().unwrap(), [Declined::Refused(reason)]);
    journal(&gateway, "anna").await;
}
