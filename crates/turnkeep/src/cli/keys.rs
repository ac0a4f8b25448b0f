//! `turnkeep keys`: who may use the API, and who signs in on the web page.
//!
//! The running server does it, over the socket in its data folder. Where none runs, the folder's
//! store is opened and the same is done to it, so that the first key can be there before the first
//! start.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Value, json};
use turnkeep_core::Timestamp;
use turnkeep_core::access::{
    ALL_TENANTS, Principal, Scopes, Visit, key_label, key_tenant, segment,
};
use turnkeep_gateway::access::{Access, LASTS_MAX, MadeKey, NewKey};
use turnkeep_gateway::http::{HttpSettings, key_as_json, sign_in_link};

use super::args::{ApiArgs, PageArgs};
use super::client::{self, Answer, Client, with_query};
use super::output::{self, cell, time_cell};
use super::place;
use super::sessions::{fields, more, query};
use crate::config::store::StoreSettings;
use crate::config::{self, Env, Stored, Whereabouts};
use crate::wiring;
use crate::wiring::stores::{Purpose, Stores};

/// Keys that are listed at once where none are asked for.
const LISTED: usize = 100;

/// `keys`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  turnkeep keys create --tenant acme --scope send,read --label 'web shop' > acme.key
  turnkeep keys create --operator --scope admin --expires-in 90d
  turnkeep keys rotate k7m2x9qa --grace 24h
  turnkeep keys sign-in --tenant acme --customer anna

As soon as there is a key, everything that comes over TCP needs one. The socket in the data folder,
which these commands use, does not.")]
pub(super) struct KeysArgs {
    #[command(subcommand)]
    command: Option<KeysCommand>,
    #[command(flatten)]
    api: ApiArgs,
}

/// What can be done with keys.
#[derive(Subcommand)]
enum KeysCommand {
    /// List them, never their secrets (this is what `keys` alone does)
    List(PageArgs),
    /// Make one and print it, this once
    Create(CreateArgs),
    /// End one at once, and every sign-in on the web page that it made
    Revoke {
        /// Its id
        id: String,
    },
    /// Make another like it and print that; the old one ends after the grace
    Rotate {
        /// The old one's id
        id: String,
        /// How long the old one goes on, like 24h or 0s
        #[arg(long, value_name = "TIME", value_parser = time, default_value = "24h")]
        grace: Duration,
    },
    /// Take one that has ended from the list
    Forget {
        /// Its id
        id: String,
    },
    /// Print a link with which a customer signs in on the web page, once
    SignIn {
        /// Whose customer
        #[arg(long, value_name = "NAME", value_parser = name, default_value = "default")]
        tenant: String,
        /// Who
        #[arg(long, value_name = "NAME", value_parser = name)]
        customer: String,
        /// The only agent to talk to [default: any; the page asks the one called default]
        #[arg(long, value_name = "NAME", value_parser = name)]
        agent: Option<String>,
    },
}

/// A key that is wanted.
#[derive(Args)]
#[command(group(ArgGroup::new("whose").required(true).args(["tenant", "operator"])))]
struct CreateArgs {
    /// Whose it is; '*' is every tenant's
    #[arg(long, value_name = "NAME", value_parser = tenant)]
    tenant: Option<String>,
    /// It reaches every tenant
    #[arg(long)]
    operator: bool,
    /// What it allows, with commas between: send, read, admin (implies the others)
    #[arg(long, value_name = "SCOPES", value_parser = scopes)]
    scope: Scopes,
    /// What you call it
    #[arg(long, value_name = "TEXT", value_parser = label)]
    label: Option<String>,
    /// How long it lasts, like 90d, 24h or 30m [default: for ever]
    #[arg(long, value_name = "TIME", value_parser = lasting)]
    expires_in: Option<Duration>,
}

fn tenant(text: &str) -> Result<String, String> {
    key_tenant(text).map(|_| text.to_owned())
}

fn name(text: &str) -> Result<String, String> {
    segment(text).map(|_| text.to_owned())
}

fn label(text: &str) -> Result<String, String> {
    key_label(text).map(|_| text.to_owned())
}

fn scopes(text: &str) -> Result<Scopes, String> {
    text.parse().map_err(|error: turnkeep_core::access::ScopesError| error.to_string())
}

fn lasting(text: &str) -> Result<Duration, String> {
    let lasts = time(text)?;
    if lasts.is_zero() { Err("must be at least 1s".into()) } else { Ok(lasts) }
}

/// A time like `90d`.
fn time(text: &str) -> Result<Duration, String> {
    let wrong = || "must be a number and a unit, like 90d, 24h, 30m or 45s".to_owned();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let count: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    let time = Duration::from_secs(count.saturating_mul(seconds));
    if time > LASTS_MAX {
        return Err(format!("must be at most {} days", LASTS_MAX.as_secs() / 86_400));
    }
    Ok(time)
}

/// Does what was asked.
pub(super) async fn run(args: KeysArgs) -> anyhow::Result<ExitCode> {
    let command = args.command.unwrap_or_else(|| KeysCommand::List(PageArgs::default()));
    if let KeysCommand::Create(CreateArgs { tenant: Some(tenant), .. }) = &command {
        doubt(tenant, &args.api)?;
    }
    let way = Way::find(&args.api, matches!(command, KeysCommand::Create(_))).await?;
    let done = act(command, &way, args.api.json).await;
    // Whatever came of it: several servers may have the store, and would see one more of them.
    if let Way::Folder(folder) = &way {
        folder.stores.close().await;
    }
    done.map(|()| ExitCode::SUCCESS)
}

/// Says where a tenant may be misspelt, by what the configuration here has; a server that is named may
/// have another one.
fn doubt(tenant: &str, args: &ApiArgs) -> anyhow::Result<()> {
    let env = Env::of_process();
    if place::named(args, &env)?.is_some() {
        return Ok(());
    }
    if let Some(meant) = config::misspelt_tenant(tenant, &args.config.flags(), &env) {
        output::complain(&format!(
            "note: the configuration has no tenant {tenant:?}; did you mean {meant:?}? The key is made \
             all the same, since tenants need not stand there"
        ));
    }
    Ok(())
}

async fn act(command: KeysCommand, way: &Way, json: bool) -> anyhow::Result<()> {
    match command {
        KeysCommand::List(page) => {
            let value = way.list(page).await?;
            if json { output::line(&value.to_string())? } else { show(&value)? }
        }
        KeysCommand::Create(create) => made(&way.create(create).await?, json)?,
        KeysCommand::Rotate { id, grace } => made(&way.rotate(&id, grace).await?, json)?,
        KeysCommand::Revoke { id } => done(&way.revoke(&id).await?, json)?,
        KeysCommand::Forget { id } => done(&way.forget(&id).await?, json)?,
        KeysCommand::SignIn { tenant, customer, agent } => {
            invited(&way.invite(tenant, customer, agent).await?, json)?;
        }
    }
    Ok(())
}

/// Prints the key alone, so that it can be piped; all else goes to the person.
fn made(value: &Value, json: bool) -> anyhow::Result<()> {
    if json {
        return output::line(&value.to_string());
    }
    output::line(value["key"].as_str().unwrap_or_default())?;
    let ends = match time_cell(value, "expires_at") {
        end if end.is_empty() => "it does not end by itself".to_owned(),
        end => format!("it ends at {end}"),
    };
    output::complain(&format!(
        "this is the key {} of tenant {} ({}); {ends}. It is shown this once",
        cell(value, "id"),
        cell(value, "tenant_id"),
        cell(value, "scopes")
    ));
    Ok(())
}

fn done(value: &Value, json: bool) -> anyhow::Result<()> {
    if json { output::line(&value.to_string()) } else { fields(value) }
}

fn invited(value: &Value, json: bool) -> anyhow::Result<()> {
    if json {
        return output::line(&value.to_string());
    }
    output::line(&output::harmless(value["link"].as_str().unwrap_or_default()))?;
    output::complain(&format!(
        "whoever opens it until {} is {} of tenant {} there for thirty days; it can be used once",
        time_cell(value, "expires_at"),
        cell(value, "customer_id"),
        cell(value, "tenant_id")
    ));
    Ok(())
}

fn show(value: &Value) -> anyhow::Result<()> {
    let row = |key: &Value| {
        [
            cell(key, "id"),
            cell(key, "tenant_id"),
            cell(key, "scopes"),
            cell(key, "status"),
            cell(key, "label"),
            time_cell(key, "created_at"),
            time_cell(key, "expires_at"),
        ]
    };
    let rows: Vec<[String; 7]> = value["keys"].as_array().into_iter().flatten().map(row).collect();
    if rows.is_empty() {
        output::complain("no keys; whoever can reach the server may do everything");
    }
    output::table(["id", "tenant", "scopes", "status", "label", "created", "expires"], &rows)?;
    more(value);
    Ok(())
}

/// How it is done: by the server, or to its folder while no server runs.
enum Way {
    Server(Client),
    Folder(Box<Folder>),
}

/// The folder's store, opened by this command.
struct Folder {
    access: Access,
    http: HttpSettings,
    stores: Stores,
}

impl Way {
    /// A folder is made only where a key is.
    async fn find(args: &ApiArgs, makes: bool) -> anyhow::Result<Self> {
        let env = Env::of_process();
        if place::named(args, &env)?.is_none() {
            let Whereabouts { listen, hosts, data_dir } =
                config::locate(&args.config.flags(), &env)?;
            if !is_served(&data_dir) {
                let http = HttpSettings { hosts, listen: Some(listen), ..Default::default() };
                let place = config::stored(&args.config.flags(), &env)?;
                let (access, stores) = open(&place, makes).await?;
                return Ok(Self::Folder(Box::new(Folder { access, http, stores })));
            }
        }
        Ok(Self::Server(Client::new(args)?))
    }

    async fn list(&self, page: PageArgs) -> anyhow::Result<Value> {
        let (access, limit) = match self {
            Self::Server(client) => {
                return value(client.get(&with_query("/v1/keys", &query(page))).await);
            }
            Self::Folder(folder) => {
                (&folder.access, page.limit.map_or(LISTED, |limit| limit as usize))
            }
        };
        let mut keys = access.list(&Principal::operator(), page.after.as_deref(), limit + 1)?;
        let more = keys.len() > limit;
        keys.truncate(limit);
        let next = keys.last().filter(|_| more).map(|key| key.id.to_string());
        let keys: Vec<Value> = keys.iter().map(key_as_json).collect();
        Ok(json!({ "keys": keys, "next": next }))
    }

    async fn create(&self, args: CreateArgs) -> anyhow::Result<Value> {
        let tenant = args.tenant.unwrap_or_else(|| ALL_TENANTS.to_owned());
        match self {
            Self::Server(client) => {
                let scopes: Vec<_> = args.scope.named().collect();
                let mut body = json!({ "tenant_id": tenant, "scopes": scopes });
                if let Some(label) = args.label {
                    body["label"] = label.into();
                }
                if let Some(lasts) = args.expires_in {
                    body["expires_in_s"] = lasts.as_secs().into();
                }
                post(client, "/v1/keys", &body).await
            }
            Self::Folder(folder) => {
                let new = NewKey {
                    tenant: key_tenant(&tenant).map_err(anyhow::Error::msg)?,
                    scopes: args.scope,
                    label: args.label.map(Arc::from),
                    lasts: args.expires_in,
                };
                Ok(with_key(&folder.access.create(&Principal::operator(), new).await?))
            }
        }
    }

    async fn revoke(&self, id: &str) -> anyhow::Result<Value> {
        match self {
            Self::Server(client) => post(client, &path(id, "revoke"), &json!({})).await,
            Self::Folder(folder) => {
                Ok(key_as_json(&folder.access.revoke(&Principal::operator(), id).await?))
            }
        }
    }

    async fn rotate(&self, id: &str, grace: Duration) -> anyhow::Result<Value> {
        match self {
            Self::Server(client) => {
                let body = json!({ "grace_s": grace.as_secs() });
                post(client, &path(id, "rotate"), &body).await
            }
            Self::Folder(folder) => {
                Ok(with_key(&folder.access.rotate(&Principal::operator(), id, grace).await?))
            }
        }
    }

    async fn forget(&self, id: &str) -> anyhow::Result<Value> {
        match self {
            Self::Server(client) => post(client, &path(id, "forget"), &json!({})).await,
            Self::Folder(folder) => {
                folder.access.forget(&Principal::operator(), id).await?;
                Ok(json!({ "result": "forgotten", "id": id }))
            }
        }
    }

    async fn invite(
        &self,
        tenant: String,
        customer: String,
        agent: Option<String>,
    ) -> anyhow::Result<Value> {
        match self {
            Self::Server(client) => {
                let mut body = json!({ "tenant_id": tenant, "customer_id": customer });
                if let Some(agent) = agent {
                    body["agent_id"] = agent.into();
                }
                post(client, "/v1/sign-ins", &body).await
            }
            Self::Folder(folder) => {
                let Folder { access, http, .. } = &**folder;
                let visit = Visit {
                    tenant: tenant.as_str().into(),
                    customer: customer.as_str().into(),
                    agent: agent.map(Arc::from),
                };
                let invitation = access.invite(&Principal::operator(), visit).await?;
                Ok(json!({
                    "code": invitation.code,
                    "link": sign_in_link(http, &invitation.code),
                    "expires_at": moment(invitation.until),
                    "tenant_id": tenant,
                    "customer_id": customer,
                }))
            }
        }
    }
}

/// Whether a server listens on the folder's socket; one that was killed leaves it behind.
fn is_served(data_dir: &Path) -> bool {
    UnixStream::connect(data_dir.join(place::SOCKET_NAME)).is_ok()
}

async fn open(place: &Stored, makes: bool) -> anyhow::Result<(Access, Stores)> {
    let data_dir = &place.data_dir;
    if !makes && !data_dir.exists() && place.store == StoreSettings::Sqlite {
        bail!("no server runs, and there is no data folder {} yet", data_dir.display());
    }
    if !data_dir.exists() {
        output::complain(&format!("no server runs; {} is made for it", data_dir.display()));
    }
    let stores = wiring::stores::open(place, Purpose::Manage).await?;
    match Access::open(Arc::clone(&stores.keys), false).await {
        Ok(access) => Ok((access, stores)),
        Err(error) => {
            stores.close().await;
            Err(error.into())
        }
    }
}

fn with_key(made: &MadeKey) -> Value {
    let MadeKey { key, text } = made;
    let mut value = key_as_json(key);
    value["key"] = text.as_str().into();
    value
}

/// As the API writes moments.
fn moment(at: Timestamp) -> String {
    let moment = jiff::Timestamp::from_millisecond(at).unwrap_or(jiff::Timestamp::MAX);
    format!("{moment:.3}")
}

fn path(id: &str, deed: &str) -> String {
    format!("/v1/keys/{}/{deed}", client::segment(id))
}

async fn post(client: &Client, path: &str, body: &Value) -> anyhow::Result<Value> {
    value(client.post(path, body, Duration::ZERO).await)
}

fn value(answer: Result<Answer, client::ClientError>) -> anyhow::Result<Value> {
    Ok(answer?.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    use turnkeep_gateway::http::GRACE_S;

    #[test]
    fn times_have_units() {
        let check = |text: &str, seconds: Option<u64>| {
            assert_eq!(time(text).ok(), seconds.map(Duration::from_secs), "{text}");
        };
        check("45s", Some(45));
        check("30m", Some(1800));
        check("24h", Some(GRACE_S));
        check("90d", Some(90 * 86_400));
        check("0s", Some(0));
        for wrong in ["", "90", "d", "-1d", "1.5h", "9 d", "1y", "99999999999999999999d", "é"] {
            check(wrong, None);
        }
        check("100000d", None);
        assert!(lasting("0d").is_err());
    }
}
