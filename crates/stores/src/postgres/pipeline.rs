//! Several statements in one round trip.
//!
//! The client sends a statement when its future is polled for the first time, in that order; the
//! usual ways of joining futures promise no order of polling. [`Pipeline`] polls its members
//! strictly one after the other, so the server gets them in the order in which they were pushed.
//! Only prepared statements and whole texts without parameters may be pushed: anything else asks
//! the server first, which is a round trip of its own, behind the others.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use tokio_postgres::{Client, Row};

use super::trouble::{Result, Trouble};

type Answer = std::result::Result<Vec<Row>, tokio_postgres::Error>;
type Sent<'a> = Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

/// What is sent together. What it gives back are the rows of each member, in their order.
#[derive(Default)]
pub(super) struct Pipeline<'a> {
    members: Vec<Sent<'a>>,
}

impl<'a> Pipeline<'a> {
    /// A text without parameters: `BEGIN`, `COMMIT`. It gives no rows.
    pub(super) fn text(&mut self, client: &'a Client, text: &'static str) -> usize {
        self.push(async move { client.batch_execute(text).await.map(|()| Vec::new()) })
    }

    /// A prepared statement, or whatever else sends at its first poll; its place among the answers.
    pub(super) fn push(&mut self, member: impl Future<Output = Answer> + Send + 'a) -> usize {
        self.members.push(Box::pin(member));
        self.members.len() - 1
    }

    /// Sends everything and waits for all answers. The first real error is the error: what the
    /// server says to the statements behind it is only that it no longer listens, and a COMMIT
    /// behind it looks like success.
    pub(super) async fn run(self) -> Result<Vec<Vec<Row>>> {
        let mut members = self.members;
        let mut answers: Vec<Option<Answer>> = members.iter().map(|_| None).collect();
        poll_fn(|context| {
            let mut open = false;
            for (member, answer) in members.iter_mut().zip(&mut answers) {
                if answer.is_none() {
                    match member.as_mut().poll(context) {
                        Poll::Ready(given) => *answer = Some(given),
                        Poll::Pending => open = true,
                    }
                }
            }
            if open { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        answers.into_iter().flatten().map(|answer| answer.map_err(Trouble::from)).collect()
    }
}
