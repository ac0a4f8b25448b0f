//! Where log lines go: standard error, through a queue, so that a slow terminal holds nobody up.

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use crate::config::resolved::{LogFormat, LogSettings};

/// Lines that may wait; what comes beyond that is dropped rather than waited for.
const LINES_MAX: usize = 100_000;

/// What can be changed while it runs.
pub(crate) struct Log(Box<dyn Fn(EnvFilter) + Send + Sync>);

impl Log {
    /// From now on this much is logged; levels were checked when they were read.
    pub(crate) fn set_level(&self, level: &str) {
        if let Ok(filter) = filter(level) {
            (self.0)(filter);
        }
    }
}

/// The SDK of tool servers tells everything that they say, at levels that are on by default; we tell
/// what matters of it ourselves. Who asks for it by name gets it.
fn filter(level: &str) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    EnvFilter::try_new(if level.contains("rmcp") {
        level.to_owned()
    } else {
        format!("rmcp=off,{level}")
    })
}

/// Starts logging; lines that wait are written when the guard is dropped.
pub(crate) fn start(settings: &LogSettings) -> anyhow::Result<(WorkerGuard, Log)> {
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(LINES_MAX)
        .thread_name("log")
        .finish(std::io::stderr());
    let filter = filter(&settings.level)?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let log = match settings.format {
        LogFormat::Text => {
            let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
            let lines = lines.with_ansi(colour).with_target(false).with_filter_reloading();
            let handle = lines.reload_handle();
            lines.init();
            // It fails only where the subscriber is gone, and this one lives as long as the process.
            Log(Box::new(move |filter| drop(handle.reload(filter))))
        }
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_filter_reloading();
            let handle = lines.reload_handle();
            lines.init();
            Log(Box::new(move |filter| drop(handle.reload(filter))))
        }
    };
    // A panic is a line of the log like any other, so that whoever collects logs sees it.
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "panic")));
    Ok((guard, log))
}
