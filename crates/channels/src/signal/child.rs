//! A signal-cli of ours: started, watched over, started again; and what it said before it ended, or
//! before we did.

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use turnkeep_core::ports::intake::Intake;

use super::calls::{Answering, Caller, Calls};
use super::ear::Ear;
use super::keeping::private_folder;
use super::lines::Line;
use super::message::{self, Told};
use super::process::{self, Process};
use super::received::{self, Growth, Reader, Received, Spot};
use super::unpacked::Unpacked;
use super::{Again, Inner, Patience, SignalAccount, accounts};

/// Envelopes of one account that may wait; they stand in the file, here is only where.
const WAITING_MAX: usize = 1_000_000;
/// So many more are looked at together, at most: a piece of the file has no more lines.
const PIECE_MAX: usize = 64 << 10;
/// How often it is looked whether somebody let go of a file.
const LOOK: Duration = Duration::from_millis(50);
/// How long somebody may hold a file of a process that ended.
const HELD_MAX: Duration = Duration::from_secs(2);
/// How often it is looked for an account that was linked meanwhile.
const ACCOUNTS_LOOK: Duration = Duration::from_secs(2);

/// How often it is looked whether it still hears.
const DEAF_LOOK: Duration = Duration::from_secs(1);

/// Where what was received waits for its account.
struct Desk {
    by_number: HashMap<Arc<str>, (Arc<Ear>, mpsc::Sender<Spot>)>,
    first: Arc<Ear>,
    /// Files of this run with envelopes that wait.
    files: Mutex<Vec<Weak<Received>>>,
}

impl Desk {
    /// Looks at a line: an answer goes to whoever waits for it, an envelope to its account. Whether
    /// it has to be taken.
    fn look_at(
        &self,
        line: &Line,
        spot: impl FnOnce(usize) -> Spot,
        calls: Option<&Calls>,
    ) -> bool {
        let line = match line {
            Line::Whole(line) => line,
            Line::TooLong => {
                self.first.pass("too long");
                return false;
            }
        };
        let (told, is_broken) = message::read_line(line);
        if is_broken && calls.is_some() {
            self.first.inner.health.broke("what it said was broken off");
        }
        let account = match told {
            Told::Answer { id, result } => {
                if let Some(calls) = calls {
                    calls.answered(&id, result);
                }
                return false;
            }
            Told::Received { account, .. } => account,
            Told::Other(why) => {
                self.first.pass(why);
                return false;
            }
        };
        let desk = match &account {
            Some(number) => self.by_number.get(number.as_str()),
            None => self.by_number.get(&self.first.account.number),
        };
        let Some((ear, queue)) = desk else {
            self.first.pass("for an account that is not configured");
            return false;
        };
        if !is_broken && calls.is_some() {
            ear.inner.health.came(&ear.account.name);
        }
        queue.try_send(spot(line.len())).is_ok()
    }

    /// Remembers a file, so that it is not looked at twice.
    fn remember(&self, file: &Arc<Received>) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.retain(|file| file.strong_count() > 0);
        files.push(Arc::downgrade(file));
    }

    /// Whether envelopes of this file wait here.
    fn holds(&self, path: &Path) -> bool {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.iter().filter_map(Weak::upgrade).any(|file| file.path() == path)
    }

    /// Whether another piece of the file may be looked at.
    fn has_room(&self) -> bool {
        self.by_number.values().all(|(_, queue)| queue.capacity() > PIECE_MAX)
    }
}

/// Listens to a process of ours until this is dropped.
pub(super) async fn listen(
    inner: &Arc<Inner>,
    intake: &Arc<dyn Intake>,
    words: &[String],
    config_dir: &Path,
) {
    let mut tasks = JoinSet::new();
    let mut by_number = HashMap::new();
    let mut first = None;
    for account in &inner.settings.accounts {
        let (ear, receipts) = Ear::new(inner, account, intake);
        let (queue, inbox) = mpsc::channel(WAITING_MAX);
        tasks.spawn(receipts);
        tasks.spawn(take_all(Arc::clone(&ear), inbox));
        first.get_or_insert_with(|| Arc::clone(&ear));
        by_number.insert(Arc::clone(&account.number), (ear, queue));
    }
    let Some(first) = first else { return std::future::pending().await };
    let desk = Desk { by_number, first, files: Mutex::default() };
    let earlier = inner.settings.earlier();
    let mut again = Again::new(inner);
    loop {
        let why = match run(inner, &desk, words, config_dir, &earlier).await {
            Ok(why) => why,
            Err(error) => error.to_string(),
        };
        inner.health.lost(&why, true);
        again.wait().await;
    }
}

/// Deals with the envelopes of one account, in order.
async fn take_all(ear: Arc<Ear>, mut inbox: mpsc::Receiver<Spot>) {
    while let Some(spot) = inbox.recv().await {
        match spot.line().map(|line| message::read(&line)) {
            Ok(Told::Received { params, .. }) => ear.hear(&params, spot.old).await,
            Ok(_) => ear.pass("nothing that was received"),
            Err(error) => {
                tracing::error!(%error, "what signal-cli received can't be read again");
            }
        }
        spot.done();
    }
}

/// Starts it once, and holds it until it ends or has to; why that was. What was received is kept beside
/// the keys: where another server comes to have those, it has this, too. `earlier` is where earlier
/// versions kept it.
async fn run(
    inner: &Arc<Inner>,
    desk: &Desk,
    words: &[String],
    config_dir: &Path,
    earlier: &Path,
) -> io::Result<String> {
    private_folder(config_dir)?;
    let _occupied = occupy(config_dir)?;
    let (left, next) = received::left(config_dir)?;
    let mut all = Vec::new();
    if earlier != config_dir && earlier.is_dir() {
        all = received::left(earlier)?.0;
    }
    all.extend(left);
    for path in all {
        if !desk.holds(&path) {
            read_left(inner, desk, path).await?;
        }
    }
    // Only now: whoever ran before us has ended, and what they unpacked is nobody's.
    let unpacked = Unpacked::of_server(config_dir);
    let mut command = process::command(words, config_dir, &unpacked)?;
    command.args(["--output", "json", "jsonRpc", "--receive-mode", "manual", "--ignore-stories"]);
    let path = received::path_of(config_dir, next);
    let (file, writes) = Received::create(path.clone())?;
    desk.remember(&file);
    let mut reader = Reader::new(Arc::clone(&file));
    let known = accounts::numbers(config_dir);
    let hears_log = Arc::clone(inner);
    let log = move |line: &str| hears_log.health.logged(line);
    let (process, stdin) = match Process::start(command, writes, card_of(&path), log) {
        Ok(started) => started,
        Err(error) => {
            file.finish();
            let program = words.first().map_or("", String::as_str);
            let is_missing = error.kind() == io::ErrorKind::NotFound;
            return is_missing.then(|| format!("there is no program {program:?}")).ok_or(error);
        }
    };
    let process = Held { process: Some(process), patience: inner.settings.patience.end };
    let caller = Arc::new(Caller::Stream(Calls::new(stdin)));
    let Caller::Stream(calls) = &*caller else { return Ok(String::new()) };
    let _answering = Answering(calls);
    inner.set_caller(Some(Arc::clone(&caller)));
    let subscribing = subscribe_all(inner, desk, &caller);
    let why = tokio::select! {
        () = process.ended() => None,
        why = inner.watch_over(&caller) => Some(why),
        error = follow(&mut reader, &file, desk, calls) => Some(error.to_string()),
        () = linked(inner, config_dir, &known) => Some("an account was linked".to_owned()),
        why = deaf(inner) => Some(why),
    };
    inner.set_caller(None);
    drop(subscribing);
    let told = why.as_deref().unwrap_or("signal-cli ended");
    calls.stop(told);
    let how = process.end().await;
    // The last answers may stand in the file.
    let read = read_out(&mut reader, &file, desk, calls).await;
    calls.close(told);
    read?;
    Ok(why.unwrap_or_else(|| format!("signal-cli ended, {how}")))
}

/// Takes the folder for as long as the handle lives: a signal-cli of another server would hand its
/// files to whoever deals with them first.
fn occupy(config_dir: &Path) -> io::Result<File> {
    let path = config_dir.join("turnkeep.lock");
    let file = File::options().create(true).append(true).mode(0o600).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(io::Error::other(format!(
            "another Turnkeep has its signal-cli there: {}",
            config_dir.display()
        ))),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// The process; let go gently if nobody waits for it any more.
struct Held {
    process: Option<Process>,
    patience: Duration,
}

impl Held {
    async fn ended(&self) {
        if let Some(process) = &self.process {
            process.ended().await;
        }
    }

    async fn end(mut self) -> String {
        match self.process.take() {
            Some(process) => process.end(self.patience).await,
            None => String::new(),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Its standard input is closed by now. Without a runtime it is ended at once.
        if let (Some(process), Ok(runtime)) =
            (self.process.take(), tokio::runtime::Handle::try_current())
        {
            let patience = self.patience;
            runtime.spawn(async move { process.end(patience).await });
        }
    }
}

/// Asks for the envelopes of every account, until it is granted; ends with what it returns.
fn subscribe_all(inner: &Arc<Inner>, desk: &Desk, caller: &Arc<Caller>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for (ear, _) in desk.by_number.values() {
        let (inner, ear, caller) = (Arc::clone(inner), Arc::clone(ear), Arc::clone(caller));
        tasks.spawn(async move {
            let params = json!({"account": &*ear.account.number});
            let mut again = Again::new(&inner);
            loop {
                let patience = inner.settings.patience.call;
                match caller.call("subscribeReceive", &params, patience).await {
                    Ok(_) => {
                        ear.look_up_our_uuid();
                        return inner.health.hears(&ear.account.name);
                    }
                    Err(error) => inner.health.deaf(&ear.account.name, &error.words()),
                }
                again.wait().await;
            }
        });
    }
    tasks
}

/// Reads behind the process; ends where that fails, or where another file is needed.
async fn follow(
    reader: &mut Reader,
    file: &Arc<Received>,
    desk: &Desk,
    calls: &Calls,
) -> io::Error {
    let growth = Growth::of(file.path());
    loop {
        while desk.has_room() {
            let spot = |start, length| Spot { file: Arc::clone(file), start, length, old: false };
            let each =
                |line: &Line, start| desk.look_at(line, |length| spot(start, length), Some(calls));
            match reader.read(each) {
                Ok(true) => tokio::task::yield_now().await,
                Ok(false) => break,
                Err(error) => return error,
            }
        }
        if file.is_full() {
            return io::Error::other("what signal-cli says needs another file");
        }
        growth.wait().await;
    }
}

/// Resolves once an account is linked that the process does not know: only a new one sees it.
async fn linked(inner: &Inner, config_dir: &Path, before: &[String]) {
    loop {
        sleep(ACCOUNTS_LOOK.min(inner.settings.patience.ping_every)).await;
        let now = accounts::numbers(config_dir);
        let is_new = |account: &SignalAccount| {
            let is_in = |numbers: &[String]| numbers.iter().any(|one| *one == *account.number);
            is_in(&now) && !is_in(before) && inner.health.is_unknown(&account.name)
        };
        if inner.settings.accounts.iter().any(is_new) {
            return;
        }
    }
}

/// Resolves, with the reason, once there is no hope that it hears again by itself, though it may
/// answer: one whose disk was full, or that can't get a connection.
async fn deaf(inner: &Inner) -> String {
    let Patience { broken, cut_off, .. } = inner.settings.patience;
    loop {
        if let Some(why) = inner.health.is_hopeless(broken, cut_off) {
            return why;
        }
        sleep(DEAF_LOOK.min(broken)).await;
    }
}

/// Looks at everything that a process wrote before it ended.
async fn read_out(
    reader: &mut Reader,
    file: &Arc<Received>,
    desk: &Desk,
    calls: &Calls,
) -> io::Result<()> {
    let until = Instant::now() + HELD_MAX;
    while !file.is_left() && Instant::now() < until {
        sleep(LOOK).await;
    }
    // Where somebody holds on to it, the file stays for the next one to look at.
    let is_left = file.is_left();
    drain(reader, file, desk, is_left, Some(calls)).await
}

/// Looks at what an earlier run of ours left behind.
async fn read_left(inner: &Inner, desk: &Desk, path: PathBuf) -> io::Result<()> {
    let card = card_of(&path);
    let file = match Received::open(path) {
        Ok(file) => Arc::new(file),
        // Somebody removed it meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    desk.remember(&file);
    let mut reader = Reader::new(Arc::clone(&file));
    let patience = inner.settings.patience.end;
    let mut until = Instant::now() + patience;
    while !file.is_left() {
        if Instant::now() > until {
            process::end_left(&card);
            inner.health.lost("an earlier signal-cli has not ended", true);
            until += patience;
        }
        sleep(LOOK).await;
    }
    let _ = std::fs::remove_file(card);
    drain(&mut reader, &file, desk, true, None).await
}

/// Looks at the rest of a file; there are `calls` where it is of this run.
async fn drain(
    reader: &mut Reader,
    file: &Arc<Received>,
    desk: &Desk,
    finished: bool,
    calls: Option<&Calls>,
) -> io::Result<()> {
    let old = calls.is_none();
    let spot = |start, length| Spot { file: Arc::clone(file), start, length, old };
    loop {
        while !desk.has_room() {
            sleep(LOOK).await;
        }
        let each = |line: &Line, start| desk.look_at(line, |length| spot(start, length), calls);
        if !reader.read(each)? {
            break;
        }
    }
    if finished {
        // Half a line is none: signal-cli has not forgotten what it did not write to the end.
        reader.rest(|line, start| desk.look_at(line, |length| spot(start, length), calls));
        file.finish();
    }
    Ok(())
}

/// Where it stands who writes to a file.
fn card_of(path: &Path) -> PathBuf {
    path.with_extension("pid")
}
