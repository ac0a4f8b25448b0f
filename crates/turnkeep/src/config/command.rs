//! An agent that is a program: what is started, where, and with which environment.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::pairs::Pairs;
use super::paths;
use super::problem::Origin;
use super::raw::AgentRaw;
use super::secret::{ApiKey, Told, secret_files};
use super::value::{Set, Texts};
use super::worktree::{self, WorktreeSettings, WorktreeTyped};

section! {
    /// Keys of an agent with `kind = "command"`.
    struct CommandKeys {
        /// The program and its arguments. No shell is asked; a program without a slash is looked for
        /// in PATH. Required.
        command: Texts => "[\"python3\", \"brain.py\"]";
        /// Where it is started; without it the file's own folder.
        dir: PathBuf => "\"/srv/brain\"";
        /// Its environment, beside PATH, HOME and LANG.
        env: Pairs => "{ SHOP = \"https://shop.example.org\" }";
        /// Variables whose values are secrets, and the file that holds each; refused if everybody on
        /// the machine can read it.
        env_files: Pairs => "{ SHOP_KEY = \"/etc/turnkeep/shop.key\" }";
        /// How many processes may work at once, one for each turn, shared fairly among tenants and
        /// sessions. One that waits for its user does not count.
        processes_max: usize [1, 10_000] = "4";
        /// A git worktree of this repository for each session, in which its processes are started
        /// instead, on a branch of its own that begins at `base` (what the repository has checked out
        /// if absent). They stand in `folder`, or in the data folder. See docs/worktrees.md.
        worktree: WorktreeTyped => "{ repository = \"/srv/shop\", base = \"main\" }";
        /// How many worktrees there are at most.
        worktrees_max: usize [1, 10_000] = "32";
    }
}

/// Processes at once, if nothing else is typed.
const PROCESSES_MAX: usize = 4;

/// A program that answers, one process a turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommandSettings {
    /// The program and its arguments.
    pub(crate) command: Vec<String>,
    /// Where it is started.
    pub(crate) dir: PathBuf,
    /// Its environment.
    pub(crate) env: BTreeMap<String, String>,
    /// What of it is secret.
    pub(crate) secrets: BTreeMap<String, ApiKey>,
    /// Processes at once.
    pub(crate) processes_max: usize,
    /// A git worktree for each session.
    pub(crate) worktrees: Option<WorktreeSettings>,
}

/// What is typed of a program.
pub(super) struct Program<'a> {
    /// The section in messages.
    pub(super) place: &'a str,
    pub(super) at: &'a Origin,
    pub(super) command: Option<&'a Set<Texts>>,
    pub(super) dir: Option<&'a Set<PathBuf>>,
    /// It is always started there, and never in a worktree.
    pub(super) stays: bool,
    pub(super) env: Option<&'a Set<Pairs>>,
    pub(super) env_files: Option<&'a Set<Pairs>>,
}

/// What is typed for an agent of this kind.
pub(super) fn command(name: &str, raw: &AgentRaw, told: &mut Told<'_>) -> Option<CommandSettings> {
    let keys = &raw.command;
    let typed = Program {
        place: &format!("[agents.{name}]"),
        at: &raw.at,
        command: keys.command.as_ref(),
        dir: keys.dir.as_ref(),
        stays: keys.worktree.is_none(),
        env: keys.env.as_ref(),
        env_files: keys.env_files.as_ref(),
    };
    let processes_max = keys.processes_max.as_ref().map_or(PROCESSES_MAX, |set| set.value);
    let worktrees = worktree::worktrees(name, keys, told);
    let program = program(&typed, processes_max, told)?;
    Some(CommandSettings { worktrees, ..program })
}

/// A program that is started, of which so many may work at once.
pub(super) fn program(
    typed: &Program<'_>,
    processes_max: usize,
    told: &mut Told<'_>,
) -> Option<CommandSettings> {
    let place = typed.place;
    let secrets = typed.env_files.map(|set| secret_files("env_files", place, set, told));
    let env = typed.env.map_or_else(BTreeMap::new, |set| set.value.0.clone());
    if let Some(set) = typed.env_files {
        for twice in env.keys().filter(|name| set.value.0.contains_key(*name)) {
            let text = format!("{twice} stands in both \"env\" and \"env_files\" in {place}");
            told.problems.add(&set.origin, text);
        }
    }
    let Some(set) = typed.command else {
        let text = format!("{place} needs \"command\"");
        told.problems.lacks(place, &["command"], typed.at, &text);
        return None;
    };
    let [program, arguments @ ..] = &set.value.0[..] else { return None };
    if arguments.is_empty() && program.contains(char::is_whitespace) {
        let text = format!(
            "\"command\" in {place} is started without a shell; it must be a list, like \
             [\"python3\", \"brain.py\"]"
        );
        told.problems.add(&set.origin, text);
    }
    if set.value.0.iter().any(|part| part.contains('\0')) {
        told.problems.add(&set.origin, format!("\"command\" in {place} holds a zero byte"));
    }
    let mut command = set.value.0.clone();
    if program.contains('/') {
        let path = Set { value: PathBuf::from(program), origin: set.origin.clone() };
        command[0] = absolute(&paths::meant(&path, told.env)).display().to_string();
    }
    let dir = dir(typed.dir, &set.origin, told);
    let path = env.get("PATH").map(String::as_str).or_else(|| told.env.get("PATH"));
    if typed.stays
        && let Some(set) = typed.dir
        && let Some(why) = no_folder(&dir)
    {
        told.notes.push(format!("{}: \"dir\" in {place}: {why}", set.origin));
    }
    if let Some(why) = absent(&command[0], path, &dir) {
        told.notes.push(format!("{}: \"command\" in {place}: {why}", set.origin));
    }
    let secrets = secrets.unwrap_or_default();
    Some(CommandSettings { command, dir, env, secrets, processes_max, worktrees: None })
}

/// Where it is started: the file's own folder, if nothing else is typed.
fn dir(typed: Option<&Set<PathBuf>>, beside: &Origin, told: &Told<'_>) -> PathBuf {
    let here = Set { value: PathBuf::from("."), origin: beside.clone() };
    absolute(&paths::meant(typed.unwrap_or(&here), told.env))
}

/// Why the program can't be started, looked for as the system will do it. It may be there by then, so
/// this is no mistake.
fn absent(program: &str, path: Option<&str>, dir: &Path) -> Option<String> {
    if program.contains('/') {
        return (!can_start(Path::new(program)))
            .then(|| format!("{program} is no file that can be started"));
    }
    let path = path?;
    let there = |folder: PathBuf| can_start(&dir.join(folder).join(program));
    (!std::env::split_paths(path).any(there))
        .then(|| format!("no program {program:?} is in the PATH, which is {path:?}"))
}

/// Why nothing can be started there, if so. It may be there by then, too.
pub(crate) fn no_folder(dir: &Path) -> Option<String> {
    let shown = dir.display();
    match std::fs::metadata(dir) {
        Ok(found) if found.is_dir() => None,
        Ok(_) => Some(format!("{shown} is no folder")),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Some(format!("there is no folder {shown}"))
        }
        Err(error) => Some(format!("the folder {shown} can't be looked at: {error}")),
    }
}

/// Whether it is a file that somebody may start.
pub(crate) fn can_start(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    const ANYBODY: u32 = 0o111;
    std::fs::metadata(path)
        .is_ok_and(|data| data.is_file() && data.permissions().mode() & ANYBODY != 0)
}

/// Counted from where the server was started, as a path that the process gets elsewhere must be.
pub(super) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
