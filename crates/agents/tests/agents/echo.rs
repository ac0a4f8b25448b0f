//! The echo agent: its answer to the letter, its delay, its mail.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;
use turnkeep_agents::EchoAgent;
use turnkeep_core::ids::{QuestionId, Seq};
use turnkeep_core::journal::SupersedeChoice;
use turnkeep_core::ports::agent::Agent;
use turnkeep_core::session::input::Finished;

use crate::handle::FakeHandle;

const DELAY: Duration = Duration::from_millis(200);

fn finished(reply: &str, used: u64) -> Finished {
    Finished { reply: Some(reply.into()), used: Some(Seq(used)), ..Finished::default() }
}

#[tokio::test(start_paused = true)]
async fn it_repeats_the_texts_in_order_after_the_delay() {
    let handle = FakeHandle::new();
    let started = Instant::now();
    let agent = EchoAgent { delay: DELAY, ..EchoAgent::default() };
    let answer = agent.run(handle.turn(&["a", "b\nc"])).await;
    assert_eq!(answer, Ok(finished("echo: a\nb\nc", 2)));
    assert_eq!(started.elapsed(), DELAY);
    assert_eq!(handle.mail_calls.load(Ordering::Relaxed), 0);
    assert!(handle.said().is_empty());
}

#[tokio::test(start_paused = true)]
async fn without_a_delay_it_answers_at_the_first_poll() {
    let handle = FakeHandle::new();
    let agent = EchoAgent::default();
    let mut answer = std::pin::pin!(agent.run(handle.turn(&["hi"])));
    let polled =
        std::future::poll_fn(|context| std::task::Poll::Ready(answer.as_mut().poll(context)));
    assert_eq!(polled.await, std::task::Poll::Ready(Ok(finished("echo: hi", 1))));
}

#[tokio::test(start_paused = true)]
async fn mail_is_in_the_answer() {
    for (show_mail, reply) in [(false, "echo: a\nb\nc"), (true, "echo: a\n(+) b\n(+) c")] {
        let handle = FakeHandle::new();
        let agent = EchoAgent { delay: DELAY, show_mail, ..EchoAgent::default() };
        let deliver = async {
            tokio::time::sleep(DELAY / 2).await;
            handle.deliver(5, "b");
            handle.deliver(6, "c");
        };
        let (answer, ()) = tokio::join!(agent.run(handle.turn(&["a"])), deliver);
        assert_eq!(answer, Ok(finished(reply, 6)));
    }
}

#[tokio::test(start_paused = true)]
async fn mail_that_the_gateway_keeps_is_left() {
    let handle = FakeHandle::new();
    handle.deliver(5, "b");
    handle.mail_is_kept.send_replace(true);
    let answer = EchoAgent::default().run(handle.turn(&["a"])).await;
    assert_eq!(answer, Ok(finished("echo: a", 1)));
}

#[tokio::test(start_paused = true)]
async fn a_cancel_wakes_it() {
    for stream in [false, true] {
        let handle = FakeHandle::new();
        let started = Instant::now();
        let agent = EchoAgent { delay: DELAY * 1000, stream, ..EchoAgent::default() };
        let cancel = async {
            tokio::time::sleep(DELAY).await;
            handle.cancel();
        };
        let (answer, ()) = tokio::join!(agent.run(handle.turn(&["a"])), cancel);
        assert_eq!(answer, Ok(finished("echo: a", 1)));
        assert_eq!(started.elapsed(), DELAY);
    }
}

#[tokio::test(start_paused = true)]
async fn revoked_mail_ends_it() {
    let handle = FakeHandle::new();
    handle.deliver(5, "b");
    handle.cancel();
    let failure = EchoAgent::default().run(handle.turn(&["a"])).await.unwrap_err();
    assert!(failure.retry && failure.error.contains("replaced or cancelled"), "{failure:?}");
}

#[tokio::test(start_paused = true)]
async fn it_lets_every_message_join() {
    for stream in [false, true] {
        let handle = FakeHandle::new();
        handle.ask(7);
        handle.ask(8);
        let agent = EchoAgent { delay: DELAY, stream, ..EchoAgent::default() };
        agent.run(handle.turn(&["a"])).await.unwrap();
        let join = |id| (QuestionId(id), SupersedeChoice::AbsorbContinue);
        assert_eq!(*handle.answers.lock().unwrap(), [join(7), join(8)]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_says_the_answer_word_by_word() {
    let handle = FakeHandle::new();
    let started = Instant::now();
    let agent = EchoAgent { delay: DELAY, stream: true, show_mail: true, tokens: false };
    let deliver = async {
        tokio::time::sleep(DELAY / 2).await;
        assert_eq!(handle.said(), ["echo: ", "ein\u{3000}"]);
        handle.deliver(5, "mehr");
    };
    let (answer, ()) = tokio::join!(agent.run(handle.turn(&["ein\u{3000}zwei  drei"])), deliver);
    assert_eq!(answer, Ok(finished("echo: ein\u{3000}zwei  drei\n(+) mehr", 5)));
    assert_eq!(handle.said(), ["echo: ", "ein\u{3000}", "zwei ", " ", "drei", "\n(+) mehr"]);
    assert_eq!(started.elapsed(), DELAY);
}

#[tokio::test(start_paused = true)]
async fn what_is_said_is_always_the_answer() {
    let long = "word ".repeat(1000);
    for (text, delay_ms, pieces_max) in
        [("", 0, 2), ("x", 1, 2), (long.as_str(), 100, 6), (long.as_str(), 0, 2), ("\n\n", 500, 4)]
    {
        let handle = FakeHandle::new();
        let delay = Duration::from_millis(delay_ms);
        let agent = EchoAgent { delay, stream: true, ..EchoAgent::default() };
        let answer = agent.run(handle.turn(&[text])).await.unwrap();
        let said = handle.said();
        assert_eq!(Some(said.concat()), answer.reply.as_deref().map(str::to_owned));
        assert!(said.len() <= pieces_max, "{} pieces for {delay:?}", said.len());
    }
}

#[tokio::test]
async fn a_hundred_thousand_of_them_fit() {
    let handle = FakeHandle::new();
    let agent = EchoAgent { delay: DELAY, ..EchoAgent::default() };
    let future = agent.run(handle.turn(&["a"]));
    // The box is what 100,000 sleeping turns hold each.
    assert!(size_of_val(&*future) <= 512, "{} bytes", size_of_val(&*future));
    drop(future);
    assert_eq!(Arc::strong_count(&handle), 1);
}
