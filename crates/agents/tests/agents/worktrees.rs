//! Git worktrees with the real git: each session has its own, finds it again, and nobody's work is
//! removed.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::future::poll_fn;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::task::Poll;

use tempfile::TempDir;
use turnkeep_agents::{CommandAgent, CommandSettings, WorktreeSettings, worktree_id};
use turnkeep_core::SessionKey;
use turnkeep_core::ports::agent::Agent;
use turnkeep_core::ports::worktrees::{Removal, Worktree, WorktreeState};
use turnkeep_core::session::input::{Finished, RunFailure};

use crate::handle::FakeHandle;

/// A repository with one commit, and a place for worktrees.
struct Ground {
    dir: TempDir,
}

impl Ground {
    fn new() -> Self {
        let ground = Self { dir: tempfile::tempdir().unwrap() };
        std::fs::create_dir(ground.repository()).unwrap();
        ground.git(&["init", "--quiet", "--initial-branch=main"]);
        ground.git(&["config", "user.name", "Test"]);
        ground.git(&["config", "user.email", "test@example.org"]);
        std::fs::write(ground.repository().join("file"), "as it was\n").unwrap();
        ground.git(&["add", "."]);
        ground.git(&["commit", "--quiet", "-m", "begin"]);
        ground
    }

    fn repository(&self) -> PathBuf {
        self.dir.path().join("repository")
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("worktrees")
    }

    fn git(&self, arguments: &[&str]) -> String {
        git(&self.repository(), arguments)
    }

    fn settings(&self) -> WorktreeSettings {
        WorktreeSettings {
            repository: self.repository(),
            base: None,
            folder: self.folder(),
            worktrees_max: 32,
        }
    }

    /// An agent that does this in a session's worktree and answers with where it was.
    fn agent(&self, script: &str) -> CommandAgent {
        self.agent_with(script, self.settings())
    }

    fn agent_with(&self, script: &str, settings: WorktreeSettings) -> CommandAgent {
        let answer = "printf '{\"type\":\"finished\",\"reply\":\"%s\"}\\n' \"$(pwd)\"";
        let program = CommandSettings {
            command: ["sh", "-c", &format!("{script}\n{answer}")].map(String::from).to_vec(),
            dir: Some(self.dir.path().to_owned()),
            env: BTreeMap::new(),
            processes_max: 4,
        };
        CommandAgent::new(program).with_worktrees(settings)
    }

    fn path(&self, session: &str) -> PathBuf {
        self.folder().join(id(session))
    }
}

fn git(dir: &Path, arguments: &[&str]) -> String {
    let ran = Command::new("git").args(arguments).current_dir(dir).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
    said.trim_end().to_owned()
}

fn key(session: &str) -> SessionKey {
    format!("acme:coder:terminal:main:{session}").parse().unwrap()
}

fn id(session: &str) -> String {
    worktree_id(&key(session))
}

async fn run(agent: &CommandAgent, session: &str) -> Result<Finished, RunFailure> {
    let mut turn = FakeHandle::new().turn(&["go"]);
    turn.session = key(session);
    agent.run(turn).await
}

/// Where a turn of this session was; nobody works there any more, as is so a moment after it.
async fn place(agent: &CommandAgent, session: &str) -> PathBuf {
    let place = run(agent, session).await.unwrap().reply.unwrap().to_string().into();
    agent.worktrees().unwrap().vacant(&key(session)).await;
    place
}

async fn list(agent: &CommandAgent) -> Vec<Worktree> {
    agent.worktrees().unwrap().list().await.unwrap()
}

/// Once nobody works there any more, which is a moment after the turn.
async fn remove(agent: &CommandAgent, session: &str, force: bool) -> Removal {
    loop {
        let removal = agent.worktrees().unwrap().remove(&id(session), force).await.unwrap();
        match &removal {
            Removal::Kept(Worktree { state: WorktreeState::InUse, .. }, _) => {
                tokio::task::yield_now().await;
            }
            _ => return removal,
        }
    }
}

fn kept(removal: Removal) -> (WorktreeState, String) {
    match removal {
        Removal::Kept(worktree, why) => (worktree.state, why),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_worktree_is_named_by_its_session() {
    let known = "tenant:agent:terminal:main:one".parse().unwrap();
    // printf tenant:agent:terminal:main:one | sha256sum
    assert_eq!(worktree_id(&known), "f3cd6678f7e1");
}

#[tokio::test]
async fn two_sessions_edit_the_same_file_at_once() {
    let ground = Ground::new();
    let agent = ground.agent("cat file >> seen; echo \"$$\" > file");
    let (one, two) = tokio::join!(place(&agent, "one"), place(&agent, "two"));
    assert_eq!((&one, &two), (&ground.path("one"), &ground.path("two")));
    let read = |place: &Path, name: &str| std::fs::read_to_string(place.join(name)).unwrap();
    assert_ne!(read(&one, "file"), read(&two, "file"));
    assert_eq!(read(&ground.repository(), "file"), "as it was\n");
    let branch = format!("turnkeep/{}", id("one"));
    assert_eq!(git(&one, &["symbolic-ref", "--short", "HEAD"]), branch);
    // The next turn finds what the one before left, also in another process.
    let restarted = ground.agent("cat file >> seen; echo later > file");
    assert_eq!(place(&restarted, "one").await, one);
    assert_eq!(read(&one, "file"), "later\n");
    let seen = read(&one, "seen");
    assert!(seen.starts_with("as it was\n") && seen.lines().count() == 2, "{seen}");
}

#[tokio::test]
async fn what_is_in_no_commit_is_never_removed() {
    let ground = Ground::new();
    let agent = ground.agent("echo mine > new.txt");
    let path = place(&agent, "one").await;
    for force in [false, true] {
        let (state, why) = kept(remove(&agent, "one", force).await);
        assert_eq!(state, WorktreeState::Dirty("new.txt is in no commit".to_owned()));
        assert!(
            why.contains("commit it or throw it away there") && why.contains("git status"),
            "{why}"
        );
    }
    assert!(path.join("new.txt").exists());
    // Neither is it when the session is closed.
    let left = agent.worktrees().unwrap().leave(&key("one")).await.unwrap();
    assert!(matches!(left, Removal::Kept(..)), "{left:?}");
    std::fs::remove_file(path.join("new.txt")).unwrap();
    assert!(matches!(remove(&agent, "one", false).await, Removal::Removed(_)));
    assert!(!path.exists());
    assert_eq!(ground.git(&["branch", "--list", "turnkeep/*"]), "", "nothing stood in it only");
    assert_eq!(remove(&agent, "one", false).await, Removal::None);
}

#[tokio::test]
async fn commits_that_stand_nowhere_else_are_kept() {
    let ground = Ground::new();
    let agent = ground.agent("echo done > file; git commit --quiet --all -m done");
    let path = place(&agent, "one").await;
    let branch = format!("turnkeep/{}", id("one"));
    let (state, why) = kept(remove(&agent, "one", false).await);
    assert_eq!(state, WorktreeState::Unmerged(1));
    assert!(why.contains("--force, which keeps the branch"), "{why}");
    // Asked for, the folder goes and the branch stays; the next turn has it again.
    assert!(matches!(remove(&agent, "one", true).await, Removal::Removed(_)));
    assert!(!path.exists());
    assert_eq!(ground.git(&["show", &format!("{branch}:file")]), "done");
    let later = ground.agent("true");
    assert_eq!(place(&later, "one").await, path);
    assert_eq!(std::fs::read_to_string(path.join("file")).unwrap(), "done\n");
    // Merged, nothing is lost any more.
    ground.git(&["merge", "--quiet", &branch]);
    assert!(matches!(remove(&later, "one", false).await, Removal::Removed(_)));
    assert_eq!(ground.git(&["branch", "--list", "turnkeep/*"]), "");
}

#[tokio::test]
async fn a_half_done_merge_is_work_too() {
    let ground = Ground::new();
    ground.git(&["switch", "--quiet", "-c", "other"]);
    ground.git(&["commit", "--quiet", "--allow-empty", "-m", "other"]);
    ground.git(&["switch", "--quiet", "main"]);
    let agent = ground.agent("git merge --quiet --no-ff --no-commit other");
    place(&agent, "one").await;
    let (state, _) = kept(remove(&agent, "one", true).await);
    assert_eq!(state, WorktreeState::Dirty("a merge is not finished".to_owned()));
}

#[tokio::test]
async fn there_are_no_more_than_the_limit() {
    let ground = Ground::new();
    let settings = WorktreeSettings { worktrees_max: 2, ..ground.settings() };
    let agent = ground.agent_with("test \"$KEEP\" || echo x > new.txt", settings.clone());
    place(&agent, "one").await;
    place(&agent, "two").await;
    let refused = run(&agent, "three").await.unwrap_err();
    assert!(!refused.retry, "{refused:?}");
    let said = "there is no worktree for this session: there are 2 worktrees with work in them, and \
                worktrees_max is 2; `turnkeep sessions worktrees` lists them";
    assert_eq!(&*refused.error, said);
    assert!(!ground.path("three").exists());
    // One in which nothing is lost makes room.
    std::fs::remove_file(ground.path("two").join("new.txt")).unwrap();
    place(&agent, "three").await;
    assert!(ground.path("one").exists() && !ground.path("two").exists());
    let states: Vec<_> = list(&agent).await.into_iter().map(|one| one.id).collect();
    let mut expect = [id("one"), id("three")];
    expect.sort_unstable();
    assert_eq!(states, expect);
}

#[tokio::test]
async fn what_the_repository_ignores_is_not_lost_to_make_room() {
    let ground = Ground::new();
    let settings = WorktreeSettings { worktrees_max: 1, ..ground.settings() };
    let agent = ground.agent_with("true", settings);
    place(&agent, "one").await;
    let exclude = ground.repository().join(".git/info");
    std::fs::create_dir_all(&exclude).unwrap();
    std::fs::write(exclude.join("exclude"), "secret.env\n").unwrap();
    let kept = ground.path("one").join("secret.env");
    std::fs::write(&kept, "mine").unwrap();
    // Whatever somebody's configuration shows of it.
    for shows in ["normal", "no"] {
        ground.git(&["config", "status.showUntrackedFiles", shows]);
        let refused = run(&agent, "two").await.unwrap_err();
        assert!(refused.error.contains("worktrees_max is 1"), "{}", refused.error);
        assert!(kept.exists());
    }
    std::fs::remove_file(&kept).unwrap();
    place(&agent, "two").await;
    assert!(!ground.path("one").exists());
    // Whoever closes the session has done with it.
    std::fs::write(ground.path("two").join("secret.env"), "mine").unwrap();
    let left = agent.worktrees().unwrap().leave(&key("two")).await.unwrap();
    assert!(matches!(left, Removal::Removed(_)), "{left:?}");
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    let ground = Ground::new();
    let check = async |settings: WorktreeSettings, session: &str, retry: bool, said: &str| {
        let agent = ground.agent_with("true", settings);
        let refused = run(&agent, session).await.unwrap_err();
        assert!(refused.error.contains(said), "{}", refused.error);
        assert_eq!(refused.retry, retry, "{}", refused.error);
    };
    let settings = || ground.settings();
    let nowhere = ground.dir.path().join("nowhere");
    check(
        WorktreeSettings { repository: nowhere, ..settings() },
        "one",
        false,
        "there is no folder",
    )
    .await;
    let plain = tempfile::tempdir().unwrap();
    let repository = plain.path().to_owned();
    check(WorktreeSettings { repository, ..settings() }, "one", false, "not a git repository")
        .await;
    let base = Some("nope".to_owned());
    check(
        WorktreeSettings { base, ..settings() },
        "one",
        false,
        "has no commit \"nope\" to begin at",
    )
    .await;
    // Somebody has its branch checked out elsewhere.
    let elsewhere = ground.dir.path().join("elsewhere").display().to_string();
    ground.git(&[
        "worktree",
        "add",
        "--quiet",
        "-b",
        &format!("turnkeep/{}", id("one")),
        &elsewhere,
    ]);
    check(settings(), "one", false, "git says: ").await;
    // Something else stands where it should.
    std::fs::create_dir_all(ground.path("two")).unwrap();
    check(settings(), "two", false, "is there and no worktree of the repository; move it away")
        .await;
    // Another git is at work.
    let lock =
        ground.repository().join(".git/refs/heads/turnkeep").join(format!("{}.lock", id("three")));
    std::fs::create_dir_all(lock.parent().unwrap()).unwrap();
    std::fs::write(&lock, "").unwrap();
    check(settings(), "three", true, "another git holds a lock there").await;
    std::fs::remove_file(&lock).unwrap();
    place(&ground.agent("true"), "three").await;
}

#[tokio::test]
async fn what_git_was_ended_over_is_made_anew() {
    let ground = Ground::new();
    let path = place(&ground.agent("true"), "one").await;
    // As git leaves it when it is killed between the first file and the last.
    let records = ground.repository().join(".git/worktrees").join(id("one"));
    std::fs::write(records.join("locked"), "initializing").unwrap();
    std::fs::remove_file(path.join("file")).unwrap();
    assert_eq!(place(&ground.agent("cat file > /dev/null || exit 1"), "one").await, path);
    assert!(path.join("file").exists());
    // And one whose folder somebody threw away.
    std::fs::remove_dir_all(&path).unwrap();
    assert_eq!(place(&ground.agent("true"), "one").await, path);
    assert!(path.join("file").exists());
}

/// Who works in a worktree may write there what they like, and git does nothing that it says.
#[tokio::test]
async fn what_stands_in_a_worktree_is_not_obeyed() {
    let ground = Ground::new();
    let agent = ground.agent("true");
    let path = place(&agent, "one").await;
    let own = ground.dir.path().join("own");
    let trap = ground.dir.path().join("trapped");
    std::fs::create_dir(&own).unwrap();
    git(&own, &["init", "--quiet"]);
    git(&own, &["config", "core.fsmonitor", &format!("touch {}", trap.display())]);
    std::fs::write(path.join(".git"), format!("gitdir: {}/.git\n", own.display())).unwrap();
    let [one] = &list(&agent).await[..] else { panic!("one") };
    assert_eq!((one.state.clone(), one.id.clone()), (WorktreeState::Clean, id("one")));
    assert!(!trap.exists());
    // It is not removed either: git itself no longer takes it for the one it knows.
    assert!(agent.worktrees().unwrap().remove(&id("one"), false).await.is_err());
    assert!(path.exists() && !trap.exists());
}

#[tokio::test]
async fn nobody_removes_a_worktree_under_a_process() {
    let ground = Ground::new();
    let (begun, end) = (ground.dir.path().join("begun"), ground.dir.path().join("end"));
    let make = Command::new("mkfifo").args([&begun, &end]).status().unwrap();
    assert!(make.success());
    let agent = ground.agent(&format!("echo > {}; read -r _ < {}", begun.display(), end.display()));
    let turn = run(&agent, "one");
    let meanwhile = async {
        tokio::fs::read(&begun).await.unwrap();
        let removal = agent.worktrees().unwrap().remove(&id("one"), true).await.unwrap();
        let (state, why) = kept(removal);
        assert_eq!(
            (state, &*why),
            (WorktreeState::InUse, "a process works in it; stop the turn first")
        );
        tokio::fs::write(&end, "\n").await.unwrap();
    };
    let (turn, ()) = tokio::join!(turn, meanwhile);
    turn.unwrap();
    assert!(matches!(remove(&agent, "one", false).await, Removal::Removed(_)));
}

/// A turn that is ended leaves its process a moment to end by itself.
#[tokio::test]
async fn whoever_waits_until_nobody_works_there_can_remove_it() {
    let ground = Ground::new();
    let (begun, end) = (ground.dir.path().join("begun"), ground.dir.path().join("end"));
    let make = Command::new("mkfifo").args([&begun, &end]).status().unwrap();
    assert!(make.success());
    let script = format!("trap '' TERM; echo > {}; read -r _ < {}", begun.display(), end.display());
    let agent = ground.agent(&script);
    let worktrees = agent.worktrees().unwrap();
    let left = async {
        tokio::fs::read(&begun).await.unwrap();
        worktrees.leave(&key("one")).await.unwrap()
    };
    let left = tokio::select! {
        _ = run(&agent, "one") => panic!("it waits"),
        left = left => left,
    };
    assert_eq!(kept(left).0, WorktreeState::InUse);
    // The turn is over, and its process has not even been asked to end.
    let mut vacant = worktrees.vacant(&key("one"));
    let looked = poll_fn(|context| Poll::Ready(vacant.as_mut().poll(context))).await;
    assert!(looked.is_pending(), "somebody works there");
    // Whoever opens both ends waits for nobody: it may have been ended by now.
    let mut end = OpenOptions::new().read(true).write(true).open(&end).unwrap();
    end.write_all(b"\n").unwrap();
    vacant.await;
    let removed = worktrees.leave(&key("one")).await.unwrap();
    assert!(matches!(removed, Removal::Removed(_)), "{removed:?}");
    // Where there is none, nobody waits.
    worktrees.vacant(&key("two")).await;
}
