//! Does what the app wants done on the server: streams, reads, and writes that wait for each other
//! only where they must.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::no_board;
use super::writes::Writes;
use crate::follow::{Following, Streams, Told};
use crate::ports::{Answer, Effect, Failure, Incoming, Link, Method, Request, Server};
use crate::text::segment;

pub(super) struct Hands {
    server: Arc<dyn Server>,
    streams: Streams,
    news: mpsc::Sender<Incoming>,
    writes: Writes,
    followed: Option<Following>,
}

impl Hands {
    pub(super) fn new(server: Arc<dyn Server>, news: mpsc::Sender<Incoming>) -> Self {
        let streams = Streams::new(Arc::clone(&server));
        Self { server, streams, news, writes: Writes::default(), followed: None }
    }

    pub(super) fn watch_board(&self, path: String) -> Following {
        self.streams.follow(path, None, self.news.clone(), |told| match told {
            Told::Stands => Incoming::Link(Link::Up),
            Told::Event(event) => Incoming::Board(event),
            Told::Lost { why, retry_ms } => Incoming::Link(Link::Down { why, retry_ms }),
            Told::Refused(failure) => Incoming::Link(Link::Refused { why: no_board(&failure) }),
        })
    }

    pub(super) fn act(&mut self, effect: Effect) {
        match effect {
            Effect::Send { tag, request } if request.method == Method::Get => {
                self.request(tag, request);
            }
            Effect::Send { tag, request } => match self.writes.push(tag, request) {
                Ok(()) => self.write(),
                Err(_) => {
                    let why = "too much waits to be sent already".to_owned();
                    self.answer_later(tag, async { Err(Failure::Unreachable(why)) });
                }
            },
            // Files take their time, and nobody's yes or stop waits for one.
            Effect::Load { tag, path, file } => {
                let server = Arc::clone(&self.server);
                self.answer_later(tag, async move { server.load(path, file).await });
            }
            Effect::Save { tag, path, file } => {
                let server = Arc::clone(&self.server);
                self.answer_later(tag, async move { server.save(path, file).await });
            }
            Effect::Follow { session, after } => self.follow(session, after),
            Effect::Unfollow => self.followed = None,
            // These are the screen's.
            Effect::Bell | Effect::Notify(_) | Effect::Redraw | Effect::Quit => {}
        }
    }

    /// The answer with this tag was heard; what waited for it goes out.
    pub(super) fn answered(&mut self, tag: u64) {
        self.writes.answered(tag);
        self.write();
    }

    fn follow(&mut self, session: String, after: u64) {
        // What is still on its way of the one before names its session.
        self.followed = None;
        let path = format!("/v1/sessions/{}/events", segment(&session));
        let behind = (after > 0).then(|| after.to_string());
        let tell = move |told| {
            let session = session.clone();
            match told {
                Told::Stands => Incoming::Following(session),
                Told::Event(event) => Incoming::Session { session, event },
                // The switchboard's stream tells how the server is.
                Told::Lost { .. } => Incoming::Tick,
                Told::Refused(failure) => Incoming::Unfollowed { session, failure },
            }
        };
        self.followed = Some(self.streams.follow(path, behind, self.news.clone(), tell));
    }

    fn write(&mut self) {
        while let Some((tag, request)) = self.writes.next() {
            self.request(tag, request);
        }
    }

    fn request(&self, tag: u64, request: Request) {
        let server = Arc::clone(&self.server);
        self.answer_later(tag, async move { server.request(request).await });
    }

    fn answer_later(
        &self,
        tag: u64,
        answer: impl Future<Output = Result<Answer, Failure>> + Send + 'static,
    ) {
        let news = self.news.clone();
        tokio::spawn(async move {
            // Nobody listens any more where this fails.
            let _ = news.send(Incoming::Answer { tag, result: answer.await }).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde_json::json;

    use super::*;
    use crate::ports::{Events, Later};

    /// Notes what it is asked, and never answers a close.
    #[derive(Default)]
    struct Slow(Mutex<Vec<String>>);

    impl Server for Slow {
        fn request(&self, request: Request) -> Later<'_, Result<Answer, Failure>> {
            self.0.lock().unwrap().push(request.path.clone());
            Box::pin(async move {
                if request.path.ends_with("/close") {
                    std::future::pending::<()>().await;
                }
                Ok(Answer::default())
            })
        }

        fn stream(&self, _: String, _: Option<String>) -> Later<'_, Result<Events, Failure>> {
            Box::pin(std::future::pending())
        }

        fn save(&self, _: String, _: String) -> Later<'_, Result<Answer, Failure>> {
            Box::pin(std::future::pending())
        }

        fn load(&self, _: String, _: String) -> Later<'_, Result<Answer, Failure>> {
            Box::pin(std::future::pending())
        }

        fn place(&self) -> String {
            "here".into()
        }
    }

    #[tokio::test]
    async fn nobody_waits_for_a_session_that_is_slow_to_close() {
        let server = Arc::new(Slow::default());
        let (news, mut heard) = mpsc::channel(8);
        let mut hands = Hands::new(server.clone(), news);
        let mut send = |tag: u64, path: &str, body: serde_json::Value| {
            let body = Some(body);
            let request = Request { method: Method::Post, path: path.to_owned(), body };
            hands.act(Effect::Send { tag, request });
        };
        send(1, "/v1/switchboard/t%3Aone/close", json!({ "seat": "t1" }));
        send(2, "/v1/chat", json!({ "session": "t:one", "message": "and then" }));
        send(3, "/v1/switchboard/t%3Atwo/switch", json!({ "seat": "t1" }));
        send(4, "/v1/chat", json!({ "session": "t:two", "message": "y" }));
        send(5, "/v1/sessions/t%3Aone/stop", json!({ "turn_id": "t" }));
        send(6, "/v1/chat", json!({ "session": "t:two", "message": "n" }));
        // What stands in the way of the second line to session two is its first line only.
        let mut tags = Vec::new();
        while tags.len() < 4 {
            let Some(Incoming::Answer { tag, .. }) = heard.recv().await else {
                panic!("no answer")
            };
            hands.answered(tag);
            tags.push(tag);
        }
        tags.sort_unstable();
        assert_eq!(tags, [3, 4, 5, 6]);
        assert_eq!(server.0.lock().unwrap().len(), 5, "the second line to one waits for its close");
    }
}
