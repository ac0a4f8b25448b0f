//! `docs/walkthrough.md` and what is to be tried in `docs/brains.md`, `docs/operators.md`,
//! `docs/switchboard.md` and `docs/money.md`, pasted from top to bottom: every block works and prints what the page says.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod port_kit;
mod store_kit;

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use port_kit::free_port;

const PAGE: &str = include_str!("../../../docs/walkthrough.md");
const BRAINS: &str = include_str!("../../../docs/brains.md");
const OPERATORS: &str = include_str!("../../../docs/operators.md");
const SWITCHBOARD: &str = include_str!("../../../docs/switchboard.md");
const MONEY: &str = include_str!("../../../docs/money.md");
/// Stands in the output where a block ends.
const MARK: &str = "== end of block ==";

/// A block of the page and what it should print.
#[derive(Debug, PartialEq, Eq)]
struct Block {
    /// Where it stands in the page, from 1.
    line: usize,
    commands: String,
    prints: String,
}

/// The `bash` blocks, each with the `text` block behind it.
fn blocks(page: &str) -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    let mut within = "";
    for (line, number) in page.lines().zip(1..) {
        match (within, line.strip_prefix("```")) {
            ("", Some(kind)) => {
                within = if kind.is_empty() { "?" } else { kind };
                if within == "bash" {
                    let (commands, prints) = (String::new(), String::new());
                    found.push(Block { line: number, commands, prints });
                }
            }
            (_, Some("")) => within = "",
            ("bash" | "text", _) => {
                let block = found.last_mut().unwrap();
                let text = if within == "bash" { &mut block.commands } else { &mut block.prints };
                writeln!(text, "{line}").unwrap();
            }
            _ => {}
        }
    }
    found
}

/// Whether a line is as the page says, where `…` stands for anything.
fn fits(line: &str, page: &str) -> bool {
    let pieces: Vec<&str> = page.split('…').collect();
    let [first, middle @ .., last] = &pieces[..] else { return line == page };
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    for piece in middle {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last)
}

/// What each block prints, both streams together.
fn paste(blocks: &[Block], home: &Path) -> Vec<String> {
    // What the page starts must not outlive a block that fails, and with it the pipe.
    let mut script =
        "set -eo pipefail\nexec 2>&1\ntrap 'kill $(jobs -p) 2> /dev/null || true' EXIT\n"
            .to_owned();
    for block in blocks {
        writeln!(script, "{}echo '{MARK}'", block.commands).unwrap();
    }
    let binary = Path::new(env!("CARGO_BIN_EXE_turnkeep")).parent().unwrap();
    let path = std::env::var("PATH").unwrap();
    let output = Command::new("bash")
        .arg("-c")
        .arg(script)
        .env_clear()
        .env("HOME", home)
        .env("PATH", format!("{}:{path}", binary.display()))
        .envs(store_kit::store(&home.join("data")))
        .current_dir(home)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let mut printed: Vec<String> = said.split(&format!("{MARK}\n")).map(str::to_owned).collect();
    let rest = printed.pop().unwrap();
    let failed = blocks.get(printed.len()).map_or(0, |block| block.line);
    assert!(output.status.success(), "the block of line {failed} fails: {rest}");
    printed
}

/// Pastes all of it in this folder.
fn works(page: &str, home: &Path) {
    let blocks = blocks(page);
    assert!(blocks.len() > 5, "{blocks:?}");
    let mut wrong = String::new();
    for (block, printed) in blocks.iter().zip(paste(&blocks, home)) {
        let (said, page): (Vec<_>, Vec<_>) =
            (printed.lines().collect(), block.prints.lines().collect());
        let fit = said.iter().zip(&page).all(|(said, page)| fits(said, page));
        if said.len() != page.len() || !fit {
            let (line, page) = (block.line, &block.prints);
            writeln!(wrong, "line {line} prints\n{printed}and the page says\n{page}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Nobody who reads a page takes as long for the next line as a machine may that has much to do.
fn unhurried(page: &str) -> String {
    let window = "window_ms = 6000\nwindow_total_ms = 60000";
    page.replace("window_ms = 1500", window)
        .replace("SHOP_SECONDS = \"5\"", "SHOP_SECONDS = \"10\"")
}

#[test]
fn the_page_works_as_it_stands() {
    let home = tempfile::tempdir().unwrap();
    let page =
        PAGE.replace("7878", &free_port().to_string()).replace("7979", &free_port().to_string());
    works(&unhurried(&page), home.path());
}

/// From the folder of the sources, or one that has the examples.
#[test]
fn the_brains_work_as_their_page_says() {
    let home = tempfile::tempdir().unwrap();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    std::os::unix::fs::symlink(examples, home.path().join("examples")).unwrap();
    // Only what is to be tried; above it stands nothing to be pasted.
    let (page, _) = BRAINS.split_once("\n## The contract\n").unwrap();
    let page =
        page.replace("7878", &free_port().to_string()).replace("9000", &free_port().to_string());
    works(&unhurried(&page), home.path());
}

#[test]
fn operators_work_as_their_page_says() {
    let home = tempfile::tempdir().unwrap();
    works(&OPERATORS.replace("7878", &free_port().to_string()), home.path());
}

#[test]
fn the_switchboard_works_as_its_page_says() {
    let home = tempfile::tempdir().unwrap();
    // Only what is to be tried; below it stands what streams look like.
    let (page, _) = SWITCHBOARD.split_once("\n## Which session\n").unwrap();
    works(&page.replace("7878", &free_port().to_string()), home.path());
}

#[test]
fn money_works_as_its_page_says() {
    let home = tempfile::tempdir().unwrap();
    works(&MONEY.replace("7878", &free_port().to_string()), home.path());
}

#[test]
fn blocks_are_read() {
    let page =
        "# x\n```bash\necho a\n```\nwords\n```text\na\n```\n```json\n{}\n```\n```bash\nb\n```\n";
    let block = |line, commands: &str, prints: &str| Block {
        line,
        commands: commands.to_owned(),
        prints: prints.to_owned(),
    };
    assert_eq!(blocks(page), [block(2, "echo a\n", "a\n"), block(12, "b\n", "")]);
    assert!(fits("key k7m of acme", "key … of acme") && fits("", "…") && fits("a", "a"));
    assert!(!fits("key of", "key … of acme") && !fits("ab", "a") && !fits("xab", "a…"));
}
