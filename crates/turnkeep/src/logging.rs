//! Where log lines go: standard error, through a queue, so that a slow terminal holds nobody up.

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use crate::config::resolved::{LogFormat, LogSettings};

/// Lines that may wait; what comes beyond that is dropped rather than waited for.
const LINES_MAX: usize = 100_000;

/// Starts logging; lines that wait are written when the guard is dropped.
pub(crate) fn start(settings: &LogSettings) -> anyhow::Result<WorkerGuard> {
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(LINES_MAX)
        .thread_name("log")
        .finish(std::io::stderr());
    let filter = EnvFilter::try_new(&settings.level)?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    match settings.format {
        LogFormat::Text => {
            let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
            lines.with_ansi(colour).with_target(false).init();
        }
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    // A panic is a line of the log like any other, so that whoever collects logs sees it.
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "panic")));
    Ok(guard)
}
