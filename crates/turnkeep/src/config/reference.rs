//! Writes the reference page and the example file from the declared keys.

use std::fmt::Write as _;

use turnkeep_core::Policy;
use turnkeep_core::policy::CHANNELS;

use super::budgets::{BudgetKeys, PriceKeys, UsageKeys};
use super::changes::is_fixed;
use super::cron::CronKeys;
use super::hatchet::HatchetKeys;
use super::layers::variable;
use super::people::{GroupKeys, UserKeys};
use super::policy;
use super::raw::{
    AgentKeys, AnthropicKeys, ChannelKeys, CommandKeys, EchoKeys, GatewayKeys, GuardKeys,
    HttpBrainKeys, ListenerKeys, ModelKeys, PolicyKeys, TelemetryKeys, TopKeys, WordKeys,
};
use super::redis::RedisKeys;
use super::section::Key;
use super::signal::{SignalAccountKeys, SignalKeys};
use super::store::StoreKeys;
use super::switchboard::SwitchboardKeys;
use super::tools::ToolServerKeys;

/// A part of both documents.
struct Part {
    title: &'static str,
    about: &'static str,
    /// The header in the example.
    header: &'static str,
    /// The section's name in variables, if its keys have some.
    variables: Option<&'static str>,
    keys: &'static [Key],
}

const PARTS: [Part; 27] = [
    Part {
        title: "Top of the file",
        about: "Keys that stand before any section.",
        header: "",
        variables: Some(""),
        keys: TopKeys::KEYS,
    },
    Part {
        title: "[store]",
        about: "Where sessions, turns and the journal live: a file in the data folder, or a \
                PostgreSQL database. See docs/postgres.md.",
        header: "[store]",
        variables: Some("store"),
        keys: StoreKeys::KEYS,
    },
    Part {
        title: "[redis]",
        about: "A Redis server beside the database, where several servers share one: rates that all \
                of them count together, and hints that save waiting. All of it may be lost at any \
                time. See docs/redis.md.",
        header: "[redis]",
        variables: Some("redis"),
        keys: RedisKeys::KEYS,
    },
    Part {
        title: "[hatchet]",
        about: "The Hatchet engine, where several servers share a database: it chooses which worker \
                runs which turn. Needs a program that was built with it (`--features hatchet`). See \
                docs/hatchet.md.",
        header: "[hatchet]",
        variables: Some("hatchet"),
        keys: HatchetKeys::KEYS,
    },
    Part {
        title: "[gateway]",
        about: "Limits and switches of the gateway as a whole.",
        header: "[gateway]",
        variables: Some("gateway"),
        keys: GatewayKeys::KEYS,
    },
    Part {
        title: "[guard]",
        about: "What counts as abuse, and what follows: `monitor` only logs and counts it, \
                `restrict` lets the customer write 10 messages a minute for a day, `block` none \
                for a day, `permanent` none until somebody lifts it. See docs/guard.md.",
        header: "[guard]",
        variables: Some("guard"),
        keys: GuardKeys::KEYS,
    },
    Part {
        title: "[telemetry]",
        about: "Traces: every step of a message as spans, sent to a collector of OpenTelemetry. Off \
                unless `otlp_endpoint` is set. See docs/operations.md.",
        header: "[telemetry]",
        variables: Some("telemetry"),
        keys: TelemetryKeys::KEYS,
    },
    Part {
        title: "[switchboard]",
        about: "The list of sessions that people watch and steer, in the terminal and elsewhere. See \
                docs/terminal.md.",
        header: "[switchboard]",
        variables: Some("switchboard"),
        keys: SwitchboardKeys::KEYS,
    },
    Part {
        title: "[accumulation]",
        about: "Words that tell whether a message is complete, so that a burst is waited for longer \
                or shorter where windows adapt. Nobody says which language a message is in, so the \
                words of all languages count together: those of `en`, `de`, `es`, `fr` and `it` are \
                built in, `[accumulation.de]` replaces those lists of a language that it names, and \
                any other name adds a language. What stands in `[accumulation]` itself counts beside \
                all of them.",
        header: "[accumulation.en]",
        variables: None,
        keys: WordKeys::KEYS,
    },
    Part {
        title: "[agents.NAME]",
        about: "One agent. The one called `default` answers where none is named. If no agent is \
                configured at all, `default` is an echo that takes 400 ms.",
        header: "[agents.default]",
        variables: None,
        keys: AgentKeys::KEYS,
    },
    Part {
        title: "[agents.NAME] with kind = \"openai\" or kind = \"anthropic\"",
        about: "An agent that asks a model: with `openai` any server which speaks that protocol, \
                hosted, Ollama, vLLM, llama.cpp and others; with `anthropic` one that speaks the \
                Messages API.",
        header: "",
        variables: None,
        keys: ModelKeys::KEYS,
    },
    Part {
        title: "[agents.NAME] with kind = \"anthropic\"",
        about: "What only that protocol has.",
        header: "[agents.claude]",
        variables: None,
        keys: AnthropicKeys::KEYS,
    },
    Part {
        title: "[agents.NAME] with kind = \"echo\"",
        about: "An agent that repeats what it is told, to try things out.",
        header: "[agents.parrot]",
        variables: None,
        keys: EchoKeys::KEYS,
    },
    Part {
        title: "[agents.NAME] with kind = \"command\"",
        about: "An agent that is a program of yours, in any language: one process a turn, JSON lines \
                over its standard input and output. See docs/brains.md.",
        header: "[agents.shop]",
        variables: None,
        keys: CommandKeys::KEYS,
    },
    Part {
        title: "[agents.NAME] with kind = \"http\"",
        about: "An agent that is a server of yours, in any language: signed POSTs, answered by an \
                event stream. See docs/brains.md.",
        header: "[agents.support]",
        variables: None,
        keys: HttpBrainKeys::KEYS,
    },
    Part {
        title: "[tools.NAME]",
        about: "One server of tools, which speaks MCP. Its tools are those of every agent that names \
                them in `tools`. See docs/tools.md.",
        header: "[tools.shop]",
        variables: None,
        keys: ToolServerKeys::KEYS,
    },
    Part {
        title: "[channels.NAME]",
        about: "One channel: signal, web, terminal, whatsapp, sms, email, voice or api.",
        header: "[channels.signal]",
        variables: None,
        keys: ChannelKeys::KEYS,
    },
    Part {
        title: "[users.NAME]",
        about: "Somebody who is known by name on the channels that are listened to, like Signal. \
                See docs/people.md.",
        header: "[users.alice]",
        variables: None,
        keys: UserKeys::KEYS,
    },
    Part {
        title: "[groups.NAME]",
        about: "A group in which we take part. What is said in a group that is not listed is \
                ignored. See docs/people.md.",
        header: "[groups.family]",
        variables: None,
        keys: GroupKeys::KEYS,
    },
    Part {
        title: "[budgets]",
        about: "How much may be used, and what follows then. The same keys may stand in \
                `[tenants.NAME.budgets]`, `[agents.NAME.budgets]` and `[channels.NAME.budgets]`; the \
                channel wins over the agent, the agent over the tenant, and the tenant over \
                `[budgets]`. See docs/money.md.",
        header: "[budgets]",
        variables: None,
        keys: BudgetKeys::KEYS,
    },
    Part {
        title: "[prices.MODEL]",
        about: "What a million tokens of a model cost. MODEL is the agent's `model`, or what a brain \
                reports, in quotes where it holds anything but letters, digits, `-` and `_`. Tokens of models \
                without a price are counted, and cost nothing.",
        header: "[prices.\"gpt-4.1-mini\"]",
        variables: None,
        keys: PriceKeys::KEYS,
    },
    Part {
        title: "[usage]",
        about: "How what was used is kept and shown.",
        header: "[usage]",
        variables: None,
        keys: UsageKeys::KEYS,
    },
    Part {
        title: "[listeners.NAME]",
        about: "One listener, which is told by signed callbacks of what happens in all sessions. \
                See docs/listeners.md.",
        header: "[listeners.crm]",
        variables: None,
        keys: ListenerKeys::KEYS,
    },
    Part {
        title: "[cron.NAME]",
        about: "A job: at its times an agent is asked, or somebody is told something. See \
                docs/cron.md.",
        header: "[cron.news]",
        variables: None,
        keys: CronKeys::KEYS,
    },
    Part {
        title: "[signal]",
        about: "Signal, spoken by signal-cli. Without this section there is none. See \
                docs/signal.md.",
        header: "[signal]",
        variables: None,
        keys: SignalKeys::KEYS,
    },
    Part {
        title: "[signal.accounts.NAME]",
        about: "One account of Signal where there are several; `number`, `tenant` and `agent` do not \
                stand in `[signal]` then.",
        header: "[signal.accounts.home]",
        variables: None,
        keys: SignalAccountKeys::KEYS,
    },
    Part {
        title: "Policy: [channels.NAME], [agents.NAME] and [tenants.NAME]",
        about: "What a session lives by. These keys may stand in `[channels.NAME]`, in \
                `[agents.NAME]` or `[agents.NAME.policy]`, and in `[tenants.NAME]`. Where several \
                say something, the channel wins over the agent, the agent over the tenant, and \
                the tenant over `[gateway]` and what is built in; what a session chose itself \
                (`/queue`) wins over all of them. `turnkeep check --explain` with a session's key, or \
                with TENANT:AGENT:CHANNEL, tells what holds and why.",
        header: "[channels.web]",
        variables: None,
        keys: PolicyKeys::KEYS,
    },
];

/// The reference page, in markdown.
pub(crate) fn reference() -> String {
    let mut page = String::from(
        "# Configuration\n\n\
         <!-- Made by `turnkeep check --reference`; change the keys' declarations instead. -->\n\n\
         Nothing has to be configured: without a file Turnkeep listens on 127.0.0.1:7878 and an \
         echo agent answers.\n\n\
         A flag wins over an environment variable, that over the file, and that over the default. \
         The file is the one named by `--config`, else by `TURNKEEP_CONFIG`, else \
         `./turnkeep.toml`, else `$XDG_CONFIG_HOME/turnkeep/turnkeep.toml` \
         (`~/.config/turnkeep/turnkeep.toml`). `turnkeep check` reads it and tells every mistake; \
         `turnkeep.example.toml` shows every key, and `docs/turnkeep.schema.json` \
         (`turnkeep check --schema`) tells editors of them.\n\n\
         Commands that ask a server, like `send`, find it by `data_dir`. Where that isn't certain \
         they are refused and ask nobody: where the file can't be read, or where it has mistakes and \
         no sound `data_dir` of its own. `--data-dir`, `TURNKEEP_DATA_DIR`, `--server` and \
         `TURNKEEP_SERVER` make it certain.\n\n\
         A running server reads it anew on SIGHUP or `turnkeep reload`. A wrong file changes \
         nothing: the log tells every mistake, and `/readyz` says `config: last reload failed` \
         until a right one was read. What is right holds from then on for everything that comes, \
         also in sessions that are open; what is under way ends as it began. Keys that need a \
         restart say so below. Messages for an agent that is gone are refused; turns of its that \
         are open wait until it is back. Variables are those of the server's start.\n\n\
         A secret is named, never written down here: by a file (`…_file`), which is refused if \
         everybody on the machine can read it and warned of if its group can, or by an environment \
         variable (`…_env`).\n",
    );
    for part in &PARTS {
        let about = part.about;
        let _ = write!(page, "\n## {}\n\n{about}\n", code_brackets(part.title));
        if let Some(section) = part.variables {
            let sample = variable(section, part.keys[0].name);
            let _ = write!(page, "\nEach has an environment variable, as in `{sample}`.\n");
        }
        page.push_str("\n| key | value | default | meaning |\n| --- | --- | --- | --- |\n");
        for key in part.keys {
            let default = key.default.map_or_else(|| "–".into(), |text| format!("`{text}`"));
            let expected = cell(&(key.expected)());
            let fixed = part.variables.is_some_and(|section| is_fixed(section, key.name));
            let doc = cell(key.doc) + if fixed { " Needs a restart." } else { "" };
            let _ = writeln!(page, "| `{}` | {expected} | {default} | {doc} |", key.name);
        }
    }
    page.push_str(&channel_table());
    page
}

fn code_brackets(title: &str) -> String {
    title.replace('[', "`[").replace(']', "]`")
}

fn cell(text: &str) -> String {
    text.trim().replace('|', "\\|")
}

fn channel_table() -> String {
    const BY_CHANNEL: [&str; 3] = ["window_ms", "busy_policy", "on_unknown"];
    let mut table = String::from(
        "\n## What is built in by channel\n\n\
         | channel | `window_ms` | `busy_policy` | `on_unknown` | replies |\n\
         | --- | --- | --- | --- | --- |\n",
    );
    for facts in CHANNELS {
        let shown = policy::shown(&Policy::built_in(facts));
        let value = |name| shown.iter().find(|line| line.0 == name).map_or("", |line| &*line.1);
        let [window, busy, unknown] = BY_CHANNEL.map(value);
        let replies = if facts.pull { "fetched by the client" } else { "pushed" };
        let name = facts.name;
        let _ = writeln!(table, "| {name} | {window} | `{busy}` | `{unknown}` | {replies} |");
    }
    table
}

/// The example file. A line that begins with `#` and no space is a key or a section that is
/// switched off.
pub(crate) fn example() -> String {
    let mut file = String::new();
    prose(
        "An example of every key Turnkeep knows. All of them are switched off: what stands behind \
         the equals sign is the default, or an example where there is none. Take away the # of the \
         [section] and of the key that you want. `turnkeep check` tells whether it is right.",
        &mut file,
    );
    for part in &PARTS {
        file.push('\n');
        prose(&format!("--- {} ---", part.title), &mut file);
        prose(&part.about.replace('`', ""), &mut file);
        if !part.header.is_empty() {
            let _ = writeln!(file, "\n#{}", part.header);
        }
        file.push_str(match part.header {
            "[agents.claude]" => "#kind = \"anthropic\"\n#model = \"claude-sonnet-4-6\"\n",
            "[agents.parrot]" => "#kind = \"echo\"\n",
            "[agents.shop]" => "#kind = \"command\"\n",
            "[agents.support]" => "#kind = \"http\"\n",
            _ => "",
        });
        for key in part.keys {
            file.push('\n');
            prose(&key.doc.replace('`', ""), &mut file);
            let _ = writeln!(file, "#{} = {}", key.name, key.sample);
        }
    }
    file.push('\n');
    prose("--- The same policy keys for a tenant and for an agent ---", &mut file);
    file.push_str("\n#[tenants.acme]\n#max_queue_size = 20\n");
    file.push_str("\n#[agents.default.policy]\n#busy_policy = \"supersede\"\n");
    file
}

/// Comment lines of a readable width.
fn prose(text: &str, file: &mut String) {
    const WIDTH: usize = 98;
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.len() > 1 && line.len() + 1 + word.len() > WIDTH {
            file.push_str(&line);
            file.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    file.push_str(&line);
    file.push('\n');
}
