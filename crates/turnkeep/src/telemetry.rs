//! Collects spans that ended and sends them, as OTLP over HTTP, to whoever keeps traces.
//!
//! A message never waits for a span. What finds no room, or what nobody takes, is lost and counted.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use reqwest::Response;
use reqwest::header::CONTENT_TYPE;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use turnkeep_core::ports::trace::{Span, Tracer};
use turnkeep_core::trace::TraceId;

use crate::config::telemetry::TelemetrySettings;

mod otlp;

/// Spans that wait to be sent, at most.
const WAITING_MAX: usize = 16_384;
/// Spans of one request, at most.
const BATCH_MAX: usize = 1024;
/// How long a span waits for others to go with it.
const BATCH_WAIT: Duration = Duration::from_secs(1);
/// How long a connection may take to come about, and a whole request.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a process that ends takes for what still waits.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);
/// The distance between two lines of the log.
const LOG_EVERY: Duration = Duration::from_secs(60);
/// What is read of an answer.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// What became of spans.
#[derive(Default)]
struct Counts {
    sent: AtomicU64,
    dropped: AtomicU64,
}

/// Takes spans and hands them to the task that sends them.
pub(crate) struct Exporter {
    spans: mpsc::Sender<Span>,
    counts: Arc<Counts>,
    /// Trace ids whose lower half is below this are recorded; as everywhere, so that programs with
    /// the same ratio record the same traces.
    below: u64,
}

impl Tracer for Exporter {
    fn samples(&self, trace: TraceId) -> bool {
        let [.., a, b, c, d, e, f, g, h] = trace.bytes();
        u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1 < self.below
    }

    fn ended(&self, span: Span) {
        if self.spans.try_send(span).is_err() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The bound of [`Exporter::samples`].
fn below(ratio: f64) -> u64 {
    const ALL: u64 = 1 << 63;
    #[expect(clippy::cast_precision_loss, reason = "a power of two is exact")]
    #[expect(clippy::cast_possible_truncation, reason = "a ratio is from 0 to 1")]
    #[expect(clippy::cast_sign_loss, reason = "a ratio is from 0 to 1")]
    let below = (ratio.clamp(0.0, 1.0) * ALL as f64) as u64;
    below
}

/// Everything that belongs to the sending of spans.
pub(crate) struct Telemetry {
    pub(crate) exporter: Arc<Exporter>,
    ending: CancellationToken,
    sending: JoinHandle<()>,
}

impl Telemetry {
    /// Begins to send; needs a runtime around it.
    pub(crate) fn start(settings: &TelemetrySettings) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .default_headers(settings.headers.clone())
            // Following would show the headers to wherever the answer points.
            .redirect(reqwest::redirect::Policy::none())
            // It would see them, too.
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(SEND_TIMEOUT)
            .user_agent(concat!("turnkeep/", env!("CARGO_PKG_VERSION")))
            .build()
            .context("[telemetry] the HTTP client can't be made")?;
        let (sender, spans) = mpsc::channel(WAITING_MAX);
        let counts = Arc::new(Counts::default());
        let sender = Exporter {
            spans: sender,
            counts: Arc::clone(&counts),
            below: below(settings.sample_ratio),
        };
        let collector = Collector {
            http,
            url: settings.url.clone(),
            service_name: settings.service_name.clone(),
            counts,
            told: 0,
            told_at: None,
        };
        let ending = CancellationToken::new();
        let sending = tokio::spawn(send_all(spans, collector, ending.clone()));
        Ok(Self { exporter: Arc::new(sender), ending, sending })
    }

    /// Sends what still waits, as far as that is done soon. Spans that end later are lost.
    pub(crate) async fn flush(self) {
        self.ending.cancel();
        if tokio::time::timeout(FLUSH_LIMIT, self.sending).await.is_err() {
            tracing::warn!("the last spans could not be sent in time");
        }
    }
}

impl Exporter {
    /// What became of spans, in the text that Prometheus reads.
    pub(crate) fn metrics(&self) -> String {
        let Counts { sent, dropped } = &*self.counts;
        let (sent, dropped) = (sent.load(Ordering::Relaxed), dropped.load(Ordering::Relaxed));
        let mut text = String::new();
        // A String takes everything.
        let _ = write!(
            text,
            "# HELP turnkeep_spans_sent_total Spans that the collector took\n\
             # TYPE turnkeep_spans_sent_total counter\n\
             turnkeep_spans_sent_total {sent}\n\
             # HELP turnkeep_spans_dropped_total Spans that were lost\n\
             # TYPE turnkeep_spans_dropped_total counter\n\
             turnkeep_spans_dropped_total {dropped}\n"
        );
        text
    }
}

async fn send_all(
    mut spans: mpsc::Receiver<Span>,
    mut collector: Collector,
    ending: CancellationToken,
) {
    let mut batch = Vec::new();
    loop {
        let first = tokio::select! {
            biased;
            () = ending.cancelled() => break,
            first = spans.recv() => first,
        };
        let Some(first) = first else { return };
        batch.push(first);
        let fill = async {
            while batch.len() < BATCH_MAX
                && let Some(span) = spans.recv().await
            {
                batch.push(span);
            }
        };
        tokio::select! {
            () = fill => {}
            () = tokio::time::sleep(BATCH_WAIT) => {}
            () = ending.cancelled() => {}
        }
        collector.send(&batch).await;
        batch.clear();
    }
    loop {
        match spans.try_recv() {
            Ok(span) if batch.len() < BATCH_MAX => batch.push(span),
            Ok(span) => {
                collector.send(&batch).await;
                batch.clear();
                batch.push(span);
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
        }
    }
    if !batch.is_empty() {
        collector.send(&batch).await;
    }
}

/// Where spans go.
struct Collector {
    http: reqwest::Client,
    url: String,
    service_name: String,
    counts: Arc<Counts>,
    /// How many lost ones the log knows of, and since when.
    told: u64,
    told_at: Option<Instant>,
}

impl Collector {
    async fn send(&mut self, batch: &[Span]) {
        let (count, sent) = (batch.len() as u64, self.post(batch).await);
        let lost = sent.as_ref().map_or(count, |rejected| count.min(*rejected));
        self.counts.sent.fetch_add(count - lost, Ordering::Relaxed);
        let dropped = self.counts.dropped.fetch_add(lost, Ordering::Relaxed) + lost;
        if dropped > self.told && self.told_at.is_none_or(|at| at.elapsed() >= LOG_EVERY) {
            let error = match sent {
                Ok(0) => "more spans came than could be sent".to_owned(),
                Ok(_) => "the collector refused some".to_owned(),
                Err(error) => error,
            };
            tracing::warn!(lost = dropped - self.told, error, "spans were lost");
            (self.told, self.told_at) = (dropped, Some(Instant::now()));
        }
    }

    /// Sends spans; says how many of them the collector refused.
    async fn post(&self, batch: &[Span]) -> Result<u64, String> {
        let body = otlp::body(&self.service_name, batch).map_err(|error| error.to_string())?;
        let request = self.http.post(&self.url).header(CONTENT_TYPE, "application/json");
        let response = request.body(body).send().await.map_err(|error| words(&error))?;
        let status = response.status();
        if !status.is_success() {
            return Err(format!("the collector answered {status}"));
        }
        Ok(otlp::refused(&read(response).await?))
    }
}

/// What is read of an answer; it is short unless something else answers there.
async fn read(mut response: Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| words(&error))? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            break;
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The innermost cause, which is what helps; the address is in the configuration.
fn words(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    if error.is_timeout() {
        "the collector did not answer in time".to_owned()
    } else {
        cause.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exporter(ratio: f64) -> Exporter {
        let (spans, _) = mpsc::channel(1);
        Exporter { spans, counts: Arc::default(), below: below(ratio) }
    }

    #[test]
    fn a_ratio_counts_by_the_lower_half_of_the_id() {
        let check = |ratio: f64, lower: u64, expect: bool| {
            let mut bytes = [0xff; 16];
            bytes[8..].copy_from_slice(&lower.to_be_bytes());
            let sampled = exporter(ratio).samples(TraceId::new(bytes).unwrap());
            assert_eq!(sampled, expect, "{ratio} {lower:x}");
        };
        check(1.0, u64::MAX, true);
        check(1.0, 0, true);
        check(0.0, 0, false);
        check(0.5, u64::MAX / 2, true);
        check(0.5, u64::MAX / 2 + 1, false);
        check(0.25, u64::MAX / 4, true);
        check(0.25, u64::MAX / 2, false);
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let exporter = exporter(1.0);
        exporter.ended(otlp::tests::span());
        let metrics = exporter.metrics();
        assert!(metrics.contains("turnkeep_spans_dropped_total 1\n"), "{metrics}");
        assert!(metrics.contains("turnkeep_spans_sent_total 0\n"), "{metrics}");
    }
}
