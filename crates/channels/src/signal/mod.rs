//! Signal, through signal-cli: a process of ours, or a daemon that runs by itself.
//!
//! | module | its job |
//! | --- | --- |
//! | `settings` | which accounts, and how signal-cli is reached |
//! | `envelope` | what an envelope says; `mentions` puts names into a text |
//! | `ear` | hears one account: one envelope after the other, each dealt with for good |
//! | `keeping` | stores attachments by their hash; `aside` keeps for a while what another account may want |
//! | `child` | a signal-cli of ours, started again when it ends; `process` the process, `received` the file that it writes to, so that nothing dies with us |
//! | `daemon` | the connections to one that runs by itself |
//! | `calls` | calls over a stream and what is known where no answer came; `message` what stands on a line, `lines` cuts and bounds them, `http` the same over HTTP |
//! | `sending` | sends a part, and what came of it |
//! | `health` | how the accounts are doing |
//! | `admin` | what a person does with accounts: link, list, trust; `accounts` the list that signal-cli keeps, `group_list` reads the groups of one |
//! | `unpacked` | where a signal-cli of ours unpacks its library, so that no kill leaves it behind for good |
//!
//! Nothing is decided here: who may write, and what becomes of it, is the intake's business.

mod accounts;
mod admin;
mod aside;
mod calls;
mod child;
mod daemon;
mod ear;
mod envelope;
#[cfg(test)]
mod fuzz;
mod group_list;
mod health;
mod http;
mod keeping;
mod lines;
mod mentions;
mod message;
mod process;
mod received;
mod sending;
mod settings;
mod unpacked;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;
use turnkeep_core::outbox::DeliveryOutcome;
use turnkeep_core::policy::{ChannelFacts, channel_facts};
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::channel::{Channel, Outgoing};
use turnkeep_core::ports::intake::{AccountHealth, Intake, KnownGroup, Listener, Undone};
use turnkeep_core::session_key::SessionKey;

pub use admin::{Identity, Trusting, groups, identities, link, list_accounts, trust, version};
pub use keeping::{Attachments, Removable, attachment_path};
pub use settings::{Patience, SignalAccount, SignalSettings, Way};

use calls::{CallError, Caller};
use health::Health;

/// The channel's name.
const CHANNEL: &str = "signal";
/// JSON-RPC's code for a method that is not there.
const NO_SUCH_METHOD: i64 = -32_601;
/// Questions in a row that nobody answered, before signal-cli counts as gone.
const UNANSWERED_MAX: u32 = 2;

/// Why something can't be done with signal-cli.
#[derive(Debug, thiserror::Error)]
pub enum SignalError {
    /// Nobody chose how to speak TLS before.
    #[error("no TLS provider is installed in this process")]
    NoTlsProvider,
    /// The HTTP client can't be made.
    #[error("the HTTP client can't be made: {0}")]
    Client(String),
    /// The address is none.
    #[error("{0:?} is no address")]
    Address(String),
    /// There is no such program.
    #[error("there is no program {0:?}")]
    NoProgram(String),
    /// It did not do what it was asked.
    #[error("{0}")]
    Refused(String),
    /// It can't be reached or started.
    #[error("signal-cli is out of reach: {0}")]
    Unreachable(String),
}

/// What sending and hearing share.
struct Inner {
    settings: SignalSettings,
    health: Health,
    /// The way to call signal-cli, while there is one.
    caller: Mutex<Option<Arc<Caller>>>,
    /// What was stored last: signal-cli's copy is gone when another envelope names it.
    stored: Mutex<keeping::Stored>,
}

/// The channel, both halves: replies leave through it, and it hears.
pub struct SignalChannel {
    facts: ChannelFacts,
    inner: Arc<Inner>,
}

impl SignalChannel {
    /// A channel with these settings. Nothing is reached before it listens, and nothing is sent.
    ///
    /// # Errors
    /// The address of the daemon is none, or no HTTP client can be made.
    pub fn new(settings: SignalSettings) -> Result<Self, SignalError> {
        let facts = channel_facts(CHANNEL).copied();
        let facts = facts.ok_or_else(|| SignalError::Refused("there is no such channel".into()))?;
        if let Way::Http(base) = &settings.way {
            // What is wrong with the address is said now, not when it is first needed.
            http::HttpCalls::new(base, answer_bytes_max(&settings))?;
        }
        let health = Health::new(&settings.accounts, settings.patience.stuck);
        let (caller, stored) = (Mutex::new(None), Mutex::default());
        let inner = Arc::new(Inner { settings, health, caller, stored });
        Ok(Self { facts, inner })
    }
}

impl SignalChannel {
    /// Asks the signal-cli that runs, which holds the accounts: another one would wait for it.
    async fn ask(&self, method: &str, params: Value) -> Result<Value, Undone> {
        let unreachable = || Undone::Unreachable("signal-cli does not run just now".into());
        let caller = self.inner.caller().ok_or_else(unreachable)?;
        let answer = caller.call(method, &params, self.inner.settings.patience.call).await;
        answer.map_err(|error| match error {
            // What it says then is no help.
            CallError::Refused(refusal) => Undone::Refused(self.not_linked(&params).map_or_else(
                || format!("signal-cli: {}", refusal.message).into(),
                |number| unknown_account(number).into(),
            )),
            CallError::NotSent(why) | CallError::Lost(why) => {
                Undone::Unreachable(format!("signal-cli is out of reach: {why}").into())
            }
        })
    }

    /// The number that a call is about, where signal-cli is known not to know it.
    fn not_linked<'a>(&self, params: &'a Value) -> Option<&'a str> {
        let number = params.get("account")?.as_str()?;
        let mut all = self.inner.settings.accounts.iter();
        let account = all.find(|account| &*account.number == number)?;
        self.inner.health.is_unknown(&account.name).then_some(number)
    }

    fn number_of(&self, account: &str) -> Result<&str, Undone> {
        let mut all = self.inner.settings.accounts.iter();
        let found = all.find(|one| &*one.name == account);
        let missing = || Undone::NoAccount(format!("there is no account {account:?}").into());
        found.map(|one| &*one.number).ok_or_else(missing)
    }
}

impl Channel for SignalChannel {
    fn facts(&self) -> &ChannelFacts {
        &self.facts
    }

    fn send(&self, part: Outgoing) -> BoxFuture<'_, DeliveryOutcome> {
        Box::pin(async move { sending::send(&self.inner, &part).await })
    }

    fn typing(&self, session: &SessionKey, on: bool) -> BoxFuture<'_, ()> {
        let session = session.clone();
        Box::pin(async move { self.inner.typing(&session, on).await })
    }
}

impl Listener for SignalChannel {
    fn channel(&self) -> &'static str {
        CHANNEL
    }

    fn listen(&self, intake: Arc<dyn Intake>) -> BoxFuture<'_, ()> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            // Whoever sends later must not use what belonged to this listening.
            let _gone = Gone(Arc::clone(&inner));
            keeping::tidy(&inner.settings.data_dir);
            let listening = async {
                match &inner.settings.way {
                    Way::Child { command, config_dir } => {
                        child::listen(&inner, &intake, command, config_dir).await;
                    }
                    Way::Unix(_) | Way::Tcp(_) => daemon::listen_to_socket(&inner, &intake).await,
                    Way::Http(base) => daemon::listen_to_http(&inner, &intake, base).await,
                }
            };
            tokio::select! {
                () = listening => {}
                () = aside::tidy(&inner) => {}
            }
        })
    }

    fn health(&self) -> Vec<AccountHealth> {
        self.inner.health.all()
    }

    fn trust<'a>(
        &'a self,
        account: &'a str,
        who: &'a str,
        safety_number: Option<&'a str>,
    ) -> BoxFuture<'a, Result<(), Undone>> {
        Box::pin(async move {
            let how = safety_number.map(|number| Trusting::SafetyNumber(number.to_owned()));
            let how = how.unwrap_or(Trusting::AllKnownKeys);
            let params = admin::trust_params(self.number_of(account)?, who, &how);
            self.ask("trust", params).await.map(drop)
        })
    }

    fn groups<'a>(&'a self, account: &'a str) -> BoxFuture<'a, Result<Vec<KnownGroup>, Undone>> {
        Box::pin(async move {
            let params = json!({"account": self.number_of(account)?});
            Ok(group_list::read(&self.ask("listGroups", params).await?))
        })
    }
}

/// Nobody listens any more.
struct Gone(Arc<Inner>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.set_caller(None);
    }
}

impl Inner {
    fn caller(&self) -> Option<Arc<Caller>> {
        self.caller.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_caller(&self, caller: Option<Arc<Caller>>) {
        *self.caller.lock().unwrap_or_else(PoisonError::into_inner) = caller;
    }

    fn account_of(&self, tenant: &str) -> Option<&SignalAccount> {
        self.settings.accounts.iter().find(|account| &*account.tenant == tenant)
    }

    async fn typing(&self, session: &SessionKey, on: bool) {
        let Some(account) = self.account_of(&session.tenant()) else { return };
        let Some(caller) = self.caller() else { return };
        let mut params = json!({"account": &*account.number});
        sending::address(&mut params, session);
        if !on {
            params["stop"] = true.into();
        }
        let shown = caller.call("sendTyping", &params, self.settings.patience.typing).await;
        if let Err(error) = shown {
            tracing::debug!(why = error.words(), on, "typing was not shown");
        }
    }

    /// Asks again and again whether signal-cli is there; resolves, with the reason, when it is not.
    async fn watch_over(&self, caller: &Caller) -> String {
        let patience = &self.settings.patience;
        // The list of accounts says more, but a daemon for one account has none.
        let mut question = "listAccounts";
        let mut unanswered = 0;
        loop {
            match caller.call(question, &json!({}), patience.call).await {
                Err(CallError::Refused(refusal))
                    if refusal.code == NO_SUCH_METHOD && question != "version" =>
                {
                    question = "version";
                    continue;
                }
                Err(error @ (CallError::NotSent(_) | CallError::Lost(_))) => {
                    unanswered += 1;
                    if unanswered >= UNANSWERED_MAX {
                        return error.words();
                    }
                }
                answer => {
                    unanswered = 0;
                    self.health.reached();
                    if let (Ok(answer), "listAccounts") = (&answer, question) {
                        self.compare_accounts(answer);
                    }
                }
            }
            sleep(patience.ping_every).await;
        }
    }

    fn compare_accounts(&self, answer: &Value) {
        let Some(known) = answer.as_array() else { return };
        for account in &self.settings.accounts {
            let is_known = known
                .iter()
                .any(|one| one.get("number").and_then(Value::as_str) == Some(&*account.number));
            let problem = (!is_known).then(|| unknown_account(&account.number));
            self.health.known(&account.name, problem.as_deref());
        }
    }
}

fn unknown_account(number: &str) -> String {
    format!("signal-cli does not know the account {number}: link it with `turnkeep signal link`")
}

/// Room for an attachment, as a daemon sends it.
fn answer_bytes_max(settings: &SignalSettings) -> usize {
    let attachment = usize::try_from(settings.attachments_bytes_max).unwrap_or(usize::MAX);
    let encoded = attachment.saturating_add(2).saturating_div(3).saturating_mul(4);
    encoded.saturating_add(64 << 10).max(lines::LINE_BYTES_MAX)
}

/// Waits a growing while between one attempt and the next.
struct Again {
    limits: (Duration, Duration),
    pause: Duration,
    began: tokio::time::Instant,
}

impl Again {
    fn new(inner: &Inner) -> Self {
        let limits = inner.settings.patience.again;
        Self { limits, pause: Duration::ZERO, began: tokio::time::Instant::now() }
    }

    /// What lasted for long begins anew with a short pause.
    async fn wait(&mut self) {
        if self.began.elapsed() > self.limits.1 {
            self.pause = Duration::ZERO;
        }
        self.pause = settings::longer(self.pause, self.limits);
        sleep(self.pause).await;
        self.began = tokio::time::Instant::now();
    }
}
