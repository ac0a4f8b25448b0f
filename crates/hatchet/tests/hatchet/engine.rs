//! Engines and their PostgreSQL, of the tests' own.
//!
//! The engine's three commands are where `TURNKEEP_HATCHET_BIN` says, else where
//! `scripts/cluster-setup.sh` puts them. All of them live as long as
//! the other end of a pipe, so that they go with the process that made them, however it ends.

#[path = "../../../stores/tests/stores/postgres_server.rs"]
#[expect(dead_code, reason = "the store's own tests do more to it")]
mod postgres_server;

#[path = "../../../turnkeep/tests/port_kit/mod.rs"]
mod port_kit;

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use port_kit::free_port;
use turnkeep_hatchet::Token;

/// The tenant that the engine's set-up makes.
const TENANT: &str = "707d0855-80ab-4e1f-a156-f1c4546cbf52";

/// Runs a program until its input names a signal, or ends; then its folder goes, too. As a service's
/// manager does, it kills one that was asked to end and takes too long: with streams that stay open
/// the engine may say that it stops by force, and never do so.
const ENGINE: &str = r#"
D=$1; shift; trap "" INT TERM
"$@" & P=$!
if read -r HOW; then
    kill "-$HOW" $P; { sleep 20; kill -KILL $P; } 2>/dev/null & W=$!
    wait $P; kill -KILL $W
else
    kill -KILL $P; wait $P; rm -rf "$D"
fi
"#;

/// A database server and where it listens.
struct Database {
    server: postgres_server::Server,
    port: u16,
}

/// An engine with a database of its own on the one server.
pub(crate) struct Engine {
    folder: tempfile::TempDir,
    url: String,
    port: u16,
    token: String,
    process: Mutex<Option<Child>>,
}

/// The one that tests share, each in a namespace of its own.
pub(crate) fn shared() -> &'static Engine {
    static SHARED: OnceLock<Engine> = OnceLock::new();
    SHARED.get_or_init(Engine::start)
}

impl Engine {
    /// One that runs.
    pub(crate) fn start() -> Self {
        static MADE: Mutex<u32> = Mutex::new(0);
        let name = {
            let mut made = MADE.lock().unwrap();
            *made += 1;
            format!("hatchet{made}")
        };
        let engine = Self {
            folder: tempfile::Builder::new().prefix("tk-hatchet").tempdir().unwrap(),
            url: make_database(&name),
            port: free_port(),
            token: String::new(),
            process: Mutex::new(None),
        };
        run(&mut engine.command("hatchet-migrate"));
        let config = engine.config();
        run(engine.command("hatchet-admin").args(["quickstart", "--skip", "certs"]).args([
            "--config",
            &config,
            "--generated-config-dir",
            &config,
        ]));
        let token = run(engine
            .command("hatchet-admin")
            .args(["token", "create", "--config", &config, "--tenant-id", TENANT])
            .args(["--name", "tests"]));
        let token = token.lines().last().unwrap().to_owned();
        let engine = Self { token, ..engine };
        engine.begin();
        engine
    }

    /// What its tenant's clients say who they are.
    pub(crate) fn token(&self) -> Token {
        Token::decode(&self.token).unwrap()
    }

    /// The same, as a text.
    pub(crate) fn token_text(&self) -> &str {
        &self.token
    }

    /// Runs it.
    pub(crate) fn begin(&self) {
        let mut command = Command::new("sh");
        command
            .args(["-c", ENGINE, "sh"])
            .arg(self.folder.path())
            .arg(programs().join("hatchet-engine"));
        command.args(["--config", &self.config()]);
        self.settle(&mut command);
        let log = fs::File::create(self.folder.path().join("log")).unwrap();
        command.stdin(Stdio::piped()).stdout(log.try_clone().unwrap()).stderr(log);
        let started = command.spawn().unwrap();
        assert!(self.process.lock().unwrap().replace(started).is_none(), "it runs");
    }

    /// Ends it by a signal, and waits until it is gone.
    pub(crate) fn end(&self, signal: &str) {
        let mut process = self.process.lock().unwrap().take().unwrap();
        writeln!(process.stdin.take().unwrap(), "{signal}").unwrap();
        process.wait().unwrap();
    }

    fn config(&self) -> String {
        self.folder.path().join("config").display().to_string()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(programs().join(program));
        self.settle(&mut command);
        command
    }

    fn settle(&self, command: &mut Command) {
        let port = self.port.to_string();
        let settings = [
            ("DATABASE_URL", self.url.as_str()),
            ("DATABASE_MAX_CONNS", "30"),
            ("SERVER_MSGQUEUE_KIND", "postgres"),
            ("SERVER_GRPC_INSECURE", "true"),
            ("SERVER_GRPC_BIND_ADDRESS", "127.0.0.1"),
            ("SERVER_GRPC_PORT", &port),
            ("SERVER_GRPC_BROADCAST_ADDRESS", &format!("127.0.0.1:{port}")),
            ("SERVER_HEALTHCHECK", "false"),
            ("SERVER_MAX_INTERNAL_RETRY_COUNT", "100"),
            ("SERVER_URL", "http://127.0.0.1:8080"),
            ("SERVER_AUTH_COOKIE_DOMAIN", "localhost"),
            ("SERVER_AUTH_COOKIE_INSECURE", "true"),
            ("SERVER_SECURITY_CHECK_ENABLED", "false"),
            ("SERVER_LOGGER_LEVEL", "warn"),
            ("DATABASE_LOGGER_LEVEL", "warn"),
        ];
        command.envs(settings).current_dir(self.folder.path());
    }
}

/// Makes a database on the server of the engines; its address.
pub(crate) fn make_database(name: &str) -> String {
    let Database { server, port } = database();
    let (socket, port) = (server.folder().display().to_string(), port.to_string());
    run(Command::new(server.program("createdb"))
        .args(["-h", &socket, "-p", &port, "-U", "turnkeep", name]));
    format!("postgresql://turnkeep@127.0.0.1:{port}/{name}?sslmode=disable")
}

fn database() -> &'static Database {
    static DATABASE_SERVER: OnceLock<Database> = OnceLock::new();
    DATABASE_SERVER.get_or_init(|| {
        let port = free_port();
        let options = format!("-p {port} -c listen_addresses=127.0.0.1 -c timezone=UTC");
        Database { server: postgres_server::Server::start(&options), port }
    })
}

/// Runs a command to its end; what it said.
fn run(command: &mut Command) -> String {
    let told = command.stdin(Stdio::null()).output().unwrap();
    let errors = String::from_utf8_lossy(&told.stderr).into_owned();
    let said = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.status.success(), "{command:?}\n{said}\n{errors}");
    said
}

fn programs() -> PathBuf {
    let named = std::env::var_os("TURNKEEP_HATCHET_BIN").map(PathBuf::from);
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/tools/hatchet/0.104.7");
    let folder = named.unwrap_or_else(|| built.into());
    let there = folder.join("hatchet-engine").exists();
    assert!(there, "no engine in {folder:?}: run scripts/cluster-setup.sh");
    folder
}
