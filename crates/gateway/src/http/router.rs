//! Every address of the API, and the OpenAPI document that is made of the same list.

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use hyper::{Method, Uri};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::entry::Shared;
use super::problem::{Kind, Problem};
use super::{
    all_events, backup, care, chat, cron, dead_letters, deliveries, events, export, guard, health,
    keys, listeners, messages, needs, operators, page, pairing, reload, reminders, session_file,
    sessions, sign_in, signal, steer, switchboard, turns, unasked, usage, worktrees,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Turnkeep",
        description = "A turn gateway between messaging channels and AI agents: one turn at a time \
                       for each conversation, bursts answered as one, nothing accepted ever lost.",
        license(name = "MIT OR Apache-2.0"),
        contact(),
    ),
    tags(
        (name = "chat", description = "Say something to an agent"),
        (name = "sessions", description = "Conversations: read, watch and steer them"),
        (name = "switchboard", description = "Many sessions for one person: numbers, names, who waits, what is unread"),
        (name = "turns", description = "What answered a burst of messages"),
        (name = "dead letters", description = "Messages that a person has to look at"),
        (name = "deliveries", description = "Replies on their way to a channel"),
        (name = "listeners", description = "What happens in all sessions, and who is told of it"),
        (name = "customers", description = "Everything that is stored of a person, and forgetting it"),
        (name = "usage", description = "What was used, in tokens and money"),
        (name = "guard", description = "Who is restricted or blocked"),
        (name = "people", description = "Who is known on the channels that are listened to"),
        (name = "schedule", description = "What is done at its time: jobs and reminders"),
        (name = "keys", description = "Who may ask"),
        (name = "health", description = "How the process is"),
    )
)]
struct Document;

pub(super) fn router() -> (Router<Arc<Shared>>, utoipa::openapi::OpenApi) {
    let routes = OpenApiRouter::with_openapi(Document::openapi());
    let (router, mut openapi) = of_sessions(routes)
        .routes(routes!(chat::chat))
        .routes(routes!(unasked::send))
        .routes(routes!(unasked::opt_in))
        .routes(routes!(unasked::opt_out))
        .routes(routes!(turns::turn))
        .routes(routes!(export::export))
        .routes(routes!(care::erase))
        .routes(routes!(dead_letters::dead_letters))
        .routes(routes!(dead_letters::retry))
        .routes(routes!(dead_letters::discard))
        .routes(routes!(deliveries::parked))
        .routes(routes!(deliveries::deliveries))
        .routes(routes!(deliveries::resend))
        .routes(routes!(all_events::all_events))
        .routes(routes!(listeners::listeners))
        .routes(routes!(listeners::dead))
        .routes(routes!(listeners::retry))
        .routes(routes!(listeners::discard))
        .routes(routes!(guard::restrictions, guard::restrict))
        .routes(routes!(signal::accounts))
        .routes(routes!(signal::groups))
        .routes(routes!(signal::trust))
        .routes(routes!(usage::usage))
        .routes(routes!(guard::restriction))
        .routes(routes!(guard::lift))
        .routes(routes!(guard::appeal))
        .routes(routes!(pairing::pairings, pairing::make))
        .routes(routes!(pairing::revoke))
        .routes(routes!(cron::jobs, cron::add))
        .routes(routes!(cron::remove))
        .routes(routes!(cron::times))
        .routes(routes!(cron::pause))
        .routes(routes!(cron::resume))
        .routes(routes!(cron::run))
        .routes(routes!(reminders::reminders, reminders::remind))
        .routes(routes!(reminders::cancel))
        .routes(routes!(keys::keys, keys::create))
        .routes(routes!(keys::revoke))
        .routes(routes!(keys::rotate))
        .routes(routes!(keys::forget))
        .routes(routes!(sign_in::invite))
        .routes(routes!(sign_in::state, sign_in::sign_in))
        .routes(routes!(sign_in::sign_out))
        .routes(routes!(worktrees::worktrees))
        .routes(routes!(worktrees::remove))
        .routes(routes!(reload::reload))
        .routes(routes!(backup::backup))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
        .routes(routes!(health::openapi_json))
        .split_for_parts();
    needs::describe(&mut openapi);
    let router = router
        .route("/chat", post(chat::chat))
        .route("/", get(page::index))
        .route("/assets/{file}", get(page::asset))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method);
    (router, openapi)
}

/// One session each, and all of them together.
fn of_sessions(routes: OpenApiRouter<Arc<Shared>>) -> OpenApiRouter<Arc<Shared>> {
    routes
        .routes(routes!(sessions::sessions))
        .routes(routes!(sessions::session))
        .routes(routes!(sessions::session_turns))
        .routes(routes!(messages::messages))
        .routes(routes!(events::events))
        .routes(routes!(session_file::save::save))
        .routes(routes!(session_file::load::load))
        .routes(routes!(steer::stop))
        .routes(routes!(steer::new))
        .routes(routes!(steer::close))
        .routes(routes!(steer::typing))
        .routes(routes!(steer::queue))
        .routes(routes!(operators::pause))
        .routes(routes!(operators::hand_back))
        .routes(routes!(operators::reply))
        .routes(routes!(switchboard::read::list, switchboard::act::create))
        .routes(routes!(switchboard::stream::events))
        .routes(routes!(switchboard::read::stats))
        .routes(routes!(switchboard::act::cleanup))
        .routes(routes!(switchboard::read::one))
        .routes(routes!(switchboard::act::name))
        .routes(routes!(switchboard::act::switch))
        .routes(routes!(switchboard::act::close))
        .routes(routes!(switchboard::act::touch))
        .routes(routes!(switchboard::act::mark_read))
}

/// The OpenAPI document.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    router().1
}

async fn unknown(uri: Uri) -> Problem {
    Problem::new(Kind::NotFound, format!("there is nothing at {}", uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> Problem {
    Problem::method(&method, &uri)
}
