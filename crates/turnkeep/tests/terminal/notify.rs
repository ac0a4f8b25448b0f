//! The desktop is told, also through a tmux that stands between.

use tokio::time::{Duration, interval, timeout};

use crate::full::{SIZE, head, leave};
use crate::kit::{Home, said};

#[tokio::test]
async fn tmux_is_asked_to_hand_on_what_the_desktop_is_told() {
    let home = Home::started();
    let file = home.path("written");
    let terminal = home.attach(SIZE, &["--notify", "--bell"]);
    terminal.shows("nobody waits for you").await;
    terminal.record(&file);
    terminal.enter("/new branches --agent careful");
    head(&terminal, "1 branches", "· idle").await;
    terminal.enter("/new chat");
    head(&terminal, "2 chat", "· idle").await;
    // It asks where nobody looks.
    let output = home.plain(&["--session", "branches", "--seat", "pipe"], "tidy up\n");
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    terminal.shows("1 waits for you: 1 branches").await;
    let told = "\u{1b}Ptmux;\u{1b}\u{1b}]9;1 branches waits for you: May I delete the branch \
                old-api?\u{7}\u{1b}\\";
    let mut looks = interval(Duration::from_millis(30));
    let written = timeout(Duration::from_secs(60), async {
        loop {
            looks.tick().await;
            let written = std::fs::read(&file).unwrap_or_default();
            let written = String::from_utf8_lossy(&written).into_owned();
            if written.contains(told) {
                return written;
            }
        }
    });
    assert!(
        written.await.is_ok(),
        "{:?}",
        std::fs::read(&file).map(|all| all.escape_ascii().to_string())
    );
    leave(terminal).await;
}
