//! Does what the conversation by lines wants: reads lines, writes lines, asks the server.

use std::io::{self, BufRead as _, Read as _};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::{Do, Hear, Plain, PlainOptions};
use crate::follow::{Following, Streams};
use crate::ports::{Request, Server};
use crate::text::segment;

/// The longest line; what is longer comes as several.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// What the server told and was not written yet.
const HEARD_MAX: usize = 256;
/// Requests that wait for those before them.
const REQUESTS_MAX: usize = 256;

/// Talks line by line until there are no more lines, or nothing to go on with. Answers the exit code.
pub async fn run(server: Arc<dyn Server>, options: PlainOptions) -> io::Result<u8> {
    let (to_lines, mut lines) = mpsc::channel(1);
    std::thread::Builder::new().name("lines".into()).spawn(move || read_lines(&to_lines))?;
    let (to_heard, mut heard) = mpsc::channel(HEARD_MAX);
    let mut hands = Hands::new(server, to_heard);
    let mut plain = Plain::new(options);
    let mut second = tokio::time::interval(Duration::from_secs(1));
    let mut todo = plain.begin();
    loop {
        for one in todo {
            if let Some(code) = hands.act(one)? {
                return Ok(code);
            }
        }
        let hear = tokio::select! {
            Some(hear) = heard.recv() => hear,
            line = lines.recv(), if plain.wants_line() => line.unwrap_or(Hear::End),
            _ = second.tick() => Hear::Tick,
        };
        todo = plain.hear(hear);
    }
}

/// Reads until the end; an input that can't be read has come to its end too.
fn read_lines(to: &mpsc::Sender<Hear>) {
    let mut input = io::stdin().lock();
    loop {
        let mut line = Vec::new();
        match (&mut input).take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let hear = String::from_utf8(line).map_or(Hear::NoText, Hear::Line);
        if to.blocking_send(hear).is_err() {
            return;
        }
    }
}

struct Hands {
    server: Arc<dyn Server>,
    streams: Streams,
    heard: mpsc::Sender<Hear>,
    requests: mpsc::Sender<(u64, Request)>,
    followed: Option<Following>,
}

impl Hands {
    fn new(server: Arc<dyn Server>, heard: mpsc::Sender<Hear>) -> Self {
        let (requests, mut waiting) = mpsc::channel::<(u64, Request)>(REQUESTS_MAX);
        let (asked, answers) = (Arc::clone(&server), heard.clone());
        tokio::spawn(async move {
            while let Some((tag, request)) = waiting.recv().await {
                let answer = asked.request(request).await;
                if answers.send(Hear::Answer(tag, answer)).await.is_err() {
                    return;
                }
            }
        });
        let streams = Streams::new(Arc::clone(&server));
        Self { server, streams, heard, requests, followed: None }
    }

    /// Does one thing; answers the code to leave with, if it is that.
    fn act(&mut self, todo: Do) -> io::Result<Option<u8>> {
        match todo {
            Do::Say(line) => write(&mut io::stdout().lock(), &line)?,
            // There is nobody to tell if that fails.
            Do::Note(line) => drop(write(&mut io::stderr().lock(), &line)),
            // Nobody's stop waits for an answer to something else.
            Do::Send(tag, request) if request.stops_one_turn() => {
                let (server, heard) = (Arc::clone(&self.server), self.heard.clone());
                tokio::spawn(async move {
                    let answer = server.request(request).await;
                    // Nobody listens any more where this fails.
                    let _ = heard.send(Hear::Answer(tag, answer)).await;
                });
            }
            Do::Send(tag, request) => {
                if self.requests.try_send((tag, request)).is_err() {
                    return Err(io::Error::other("too many requests wait to be sent"));
                }
            }
            Do::Follow(session, after) => {
                let path = format!("/v1/sessions/{}/events", segment(&session));
                let behind = (after > 0).then(|| after.to_string());
                let tell = move |told| Hear::Stream(session.clone(), told);
                self.followed = None;
                self.followed = Some(self.streams.follow(path, behind, self.heard.clone(), tell));
            }
            Do::Leave(code) => return Ok(Some(code)),
        }
        Ok(None)
    }
}

fn write(out: &mut impl io::Write, line: &str) -> io::Result<()> {
    out.write_all(line.as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}
