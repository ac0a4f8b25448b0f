//! The processes of a cluster, each begun again whenever it ends.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::beside::Beside;
use crate::proxy::Proxy;
use crate::{DRAINED_WITHIN, pass, postgres_server};

const CONFIG: &str = "log_level = \"warn\"\n[gateway]\nrate_limiting_enabled = false\n\
                      fallback_to_sync = true\n\
                      [agents.default]\nkind = \"echo\"\ndelay_ms = 150\n\
                      [redis]\nurl_file = \"redis.url\"\n\
                      [hatchet]\ntoken_file = \"token\"\ndispatch_timeout_ms = 3000\n\
                      [store]\nkind = \"postgres\"\nurl_file = \"postgres.url\"\n\
                      node_timeout_ms = 4000\n";
/// Who counts what was taken waits no longer.
const SOON: Duration = Duration::from_secs(1);
/// The file of a database's socket in its folder.
const SOCKET: &str = ".s.PGSQL.5432";

/// Where the servers listen now; one that is away still has its old address.
#[derive(Clone, Default)]
pub(crate) struct Addresses(Arc<Mutex<Vec<String>>>);

impl Addresses {
    pub(crate) fn any(&self, number: u64) -> String {
        let all = self.0.lock().unwrap();
        all[usize::try_from(number).unwrap() % all.len()].clone()
    }
}

/// One process, its folder, and its ways to the database and to Redis.
pub(crate) struct Node {
    place: Place,
    pub(crate) database: Proxy,
    pub(crate) redis: Proxy,
}

/// Where a process lives, and which one it is now.
#[derive(Clone)]
struct Place {
    home: PathBuf,
    role: Role,
    process: Arc<Mutex<Option<u32>>>,
}

/// All of them.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    pub(crate) addresses: Addresses,
    life: Arc<Life>,
    dir: Option<tempfile::TempDir>,
    _database: postgres_server::Server,
    pub(crate) beside: Beside,
}

/// What all keepers share.
#[derive(Default)]
struct Life {
    restarts: AtomicU64,
    ended: AtomicBool,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.life.ended.store(true, Ordering::Release);
        for node in &self.nodes {
            node.kill();
        }
        if std::thread::panicking()
            && let Some(dir) = self.dir.take()
        {
            println!("what the servers logged is in {}", dir.keep().display());
        }
    }
}

fn secret(home: &Path, name: &str, text: &str) {
    let file = home.join(name);
    std::fs::write(&file, text).unwrap();
    let only_owner = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&file, only_owner).unwrap();
}

fn signal(process: u32, name: &str) {
    // It may have ended meanwhile, which is as good.
    let _ = Command::new("kill").args([name, &process.to_string()]).stderr(Stdio::null()).status();
}

impl Node {
    fn new(
        dir: &Path,
        (name, role): (String, Role),
        database: &postgres_server::Server,
        beside: &Beside,
    ) -> Self {
        let home = dir.join(&name);
        std::fs::create_dir(&home).unwrap();
        let folder = home.to_str().unwrap().replace('/', "%2F");
        secret(&home, "postgres.url", &format!("postgres://turnkeep@{folder}/postgres\n"));
        secret(&home, "redis.url", &format!("unix://{}\n", home.join("redis").display()));
        secret(&home, "token", &beside.token);
        let config = format!("{CONFIG}node = \"{name}\"\n");
        std::fs::write(home.join("turnkeep.toml"), config).unwrap();
        let database = Proxy::new(&home.join(SOCKET), database.folder().join(SOCKET));
        let redis = Proxy::new(&home.join("redis"), beside.redis_socket.clone().into());
        Self { place: Place { home, role, process: Arc::default() }, database, redis }
    }

    pub(crate) fn kill(&self) {
        if let Some(process) = *self.place.process.lock().unwrap() {
            signal(process, "-KILL");
        }
    }

    /// It stands still for so long.
    pub(crate) fn stop(&self, time: Duration) {
        let Some(process) = *self.place.process.lock().unwrap() else { return };
        signal(process, "-STOP");
        tokio::spawn(async move {
            pass(time).await;
            signal(process, "-CONT");
        });
    }
}

impl Place {
    fn spawn(&self) -> Child {
        let log = self.home.join("log");
        let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_turnkeep"));
        command.args(match self.role {
            Role::Server => ["serve", "--role", "gateway"].as_slice(),
            Role::Worker => ["worker"].as_slice(),
        });
        command.args(["--listen", "127.0.0.1:0", "--config"]);
        command.arg(self.home.join("turnkeep.toml")).arg("--data-dir").arg(self.home.join("data"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        command.spawn().unwrap()
    }
}

/// What a process is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Server,
    Worker,
}

/// Starts a process again and again, whyever it ends, and says where it listens.
fn keep(place: &Place, seat: usize, addresses: Addresses, life: Arc<Life>) {
    let place = place.clone();
    std::thread::spawn(move || {
        while !life.ended.load(Ordering::Acquire) {
            let mut child = place.spawn();
            *place.process.lock().unwrap() = Some(child.id());
            // Kept open: what it says later must not fail.
            let mut out = BufReader::new(child.stdout.take().unwrap());
            let mut line = String::new();
            let _ = out.read_line(&mut line);
            if let Some(address) = line.trim().strip_prefix("listening on ")
                && place.role == Role::Server
            {
                addresses.0.lock().unwrap()[seat] = address.to_owned();
            }
            let _ = child.wait();
            life.restarts.fetch_add(1, Ordering::AcqRel);
        }
    });
}

impl Cluster {
    /// So many servers and workers on one database, all of them ready.
    pub(crate) async fn start(servers: usize, workers: usize) -> Self {
        let dir = tempfile::Builder::new().prefix("tk").tempdir_in("/tmp").unwrap();
        let database = postgres_server::Server::start("");
        let beside = tokio::task::spawn_blocking(Beside::start).await.unwrap();
        let addresses = Addresses(Arc::new(Mutex::new(vec![String::new(); servers])));
        let life = Arc::<Life>::default();
        let names = (0..servers).map(|number| (format!("server{number}"), Role::Server));
        let names =
            names.chain((0..workers).map(|number| (format!("worker{number}"), Role::Worker)));
        let mut nodes = Vec::new();
        for (seat, name) in names.enumerate() {
            let node = Node::new(dir.path(), name, &database, &beside);
            keep(&node.place, seat, addresses.clone(), Arc::clone(&life));
            nodes.push(node);
        }
        let cluster = Self { nodes, addresses, life, dir: Some(dir), _database: database, beside };
        cluster.ready().await;
        cluster
    }

    pub(crate) fn restarts(&self) -> u64 {
        self.life.restarts.load(Ordering::Acquire)
    }

    /// Turns that a worker has taken in time from the gateway that listens here, since it started.
    pub(crate) async fn taken(&self, number: u64) -> u64 {
        let url = format!("{}/metrics", self.addresses.any(number));
        let client = reqwest::Client::builder().timeout(SOON).build().unwrap();
        let told = async { client.get(url).send().await?.text().await };
        // It may be away just now, or stand still.
        let told = told.await.unwrap_or_default();
        let name = "turnkeep_dispatch_taken_total ";
        told.lines().find_map(|line| line.strip_prefix(name)?.parse().ok()).unwrap_or(0)
    }

    /// Nothing goes wrong any more; comes back once every server is ready.
    pub(crate) async fn heal(&self) {
        self.beside.heal().await;
        for node in &self.nodes {
            node.database.heal();
            node.redis.heal();
            if let Some(process) = *node.place.process.lock().unwrap() {
                signal(process, "-CONT");
            }
        }
        self.ready().await;
    }

    async fn ready(&self) {
        let client = reqwest::Client::new();
        let since = Instant::now();
        loop {
            let all = self.addresses.0.lock().unwrap().clone();
            let mut ready = 0;
            for address in &all {
                let answer = client.get(format!("{address}/readyz")).send().await;
                ready += usize::from(answer.is_ok_and(|answer| answer.status() == 200));
            }
            if ready == all.len() {
                return;
            }
            assert!(since.elapsed() < DRAINED_WITHIN, "not every server gets ready");
            pass(Duration::from_millis(100)).await;
        }
    }

    /// What `turnkeep audit` says of the database.
    pub(crate) async fn audit(&self) -> String {
        let home = self.nodes[0].place.home.clone();
        let audit = tokio::task::spawn_blocking(move || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_turnkeep"));
            command.args(["audit", "--config"]).arg(home.join("turnkeep.toml"));
            command.arg("--data-dir").arg(home.join("data")).output().unwrap()
        });
        let audit = audit.await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        text(&audit.stdout) + &text(&audit.stderr)
    }
}
