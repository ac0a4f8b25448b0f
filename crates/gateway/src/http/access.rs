//! Lets in: finds out who asks and whether it may, before anything of the body is read.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use hyper::HeaderMap;
use hyper::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, COOKIE as COOKIES};
use hyper::http::request::Parts;
use turnkeep_core::SessionKey;
use turnkeep_core::access::{Principal, Scope, VISIT_CHANNEL};
use turnkeep_core::care::is_tombstone;

use super::entry::Shared;
use super::lines::LINES;
use super::needs::{self, Need};
use super::problem::{Kind, Problem};
use super::sign_in::COOKIE;
use super::source::{Source, check_site};
use crate::access::{AccessError, Caller, TooManyFailures};
use crate::clock;
use crate::ingress::Submission;

/// Whoever asks, for handlers.
#[derive(Clone, Debug)]
pub(super) struct Asker(pub(super) Arc<Caller>);

impl<S: Send + Sync> FromRequestParts<S> for Asker {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        // Who was let in to an address that needs nobody is nobody.
        parts.extensions.get::<Self>().cloned().ok_or_else(Problem::unauthorized)
    }
}

impl Asker {
    pub(super) fn who(&self) -> &Principal {
        &self.0.principal
    }

    /// Whether it is a customer, signed in on the web page.
    pub(super) fn is_person(&self) -> bool {
        self.who().visit().is_some()
    }

    /// Which tenant is meant: the one that was asked for, the asker's own, or none where the asker
    /// is bound to none.
    pub(super) fn tenant(&self, asked: Option<String>) -> Result<Option<String>, Problem> {
        match (self.who().tenant(), asked) {
            (None, asked) => Ok(asked),
            (Some(own), None) => Ok(Some(own.to_owned())),
            (Some(own), Some(asked)) if asked == own => Ok(Some(asked)),
            (Some(_), Some(asked)) => Err(no_tenant(&asked)),
        }
    }

    /// Whether something of this tenant is within reach; `missing` says that it isn't there.
    pub(super) fn reach_tenant(
        &self,
        tenant: &str,
        missing: impl FnOnce() -> Problem,
    ) -> Result<(), Problem> {
        if self.who().reaches_tenant(tenant) { Ok(()) } else { Err(missing()) }
    }

    /// Whether a session is within reach; `missing` says that it isn't there. What stands for an
    /// erased one is within nobody's.
    pub(super) fn reach(
        &self,
        key: &SessionKey,
        missing: impl FnOnce() -> Problem,
    ) -> Result<(), Problem> {
        if self.who().reaches(key) && !is_tombstone(key) { Ok(()) } else { Err(missing()) }
    }

    /// Fills in what goes without saying for the asker, and refuses what it can't reach.
    pub(super) fn confine(&self, submission: &mut Submission) -> Result<(), Problem> {
        let who = self.who();
        let Some(tenant) = who.tenant() else { return Ok(()) };
        let visit = who.visit();
        if submission.session.is_none() {
            own("tenant", &mut submission.tenant, Some(tenant))?;
            if let Some(visit) = visit {
                own("channel", &mut submission.channel, Some(VISIT_CHANNEL))?;
                own("agent", &mut submission.agent, visit.agent.as_deref())?;
            }
        }
        if let Some(visit) = visit {
            own("customer", &mut submission.customer, Some(&visit.customer))?;
            submission.request_of = Some(visit.customer.to_string());
        }
        // A text that is no key is refused by its field.
        match submission.session.as_deref().map(str::parse::<SessionKey>) {
            Some(Ok(key)) => self.reach(&key, || nowhere(&key)),
            _ => Ok(()),
        }
    }
}

fn own(what: &str, given: &mut Option<String>, own: Option<&str>) -> Result<(), Problem> {
    match (given.as_deref(), own) {
        (Some(other), Some(own)) if other != own => {
            Err(Problem::new(Kind::NotFound, format!("there is no {what} {other:?}")))
        }
        (None, Some(own)) => {
            *given = Some(own.to_owned());
            Ok(())
        }
        _ => Ok(()),
    }
}

pub(super) fn no_tenant(tenant: &str) -> Problem {
    Problem::new(Kind::NotFound, format!("there is no tenant {tenant:?}"))
}

/// What is said of a session that is not there, or not for the asker.
pub(super) fn nowhere(key: &SessionKey) -> Problem {
    Problem::new(Kind::NotFound, format!("nobody has written in the session {key} yet"))
}

/// Stands before every handler of the router.
pub(super) async fn gate(
    State(shared): State<Arc<Shared>>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(path) = request.extensions().get::<MatchedPath>() else {
        // There is nothing there, for anybody.
        return next.run(request).await;
    };
    let path = path.clone();
    let path = path.as_str();
    let need = needs::of(request.method().as_str(), path);
    let allowed = needs::allowed(path);
    let foreign = need.is_none() && !allowed.is_empty();
    if foreign && needs::is_open(path) {
        return refuse_method(&request, &allowed);
    }
    let asked = shared.parameters.check(request.method().as_str(), path, request.uri());
    if need == Some(Need::Nobody) {
        return match asked {
            Ok(()) => next.run(request).await,
            Err(problem) => problem.into_response(),
        };
    }
    let Some(source) = request.extensions().get::<Source>().copied() else {
        return Problem::unauthorized().into_response();
    };
    // Everybody who is somebody is told how an address can be asked.
    let need = if foreign { Need::Nobody } else { need.unwrap_or(needs::UNKNOWN) };
    let caller = match admit(&shared, need, source, request.headers()).await {
        Ok(_) if foreign => return refuse_method(&request, &allowed),
        Ok(caller) => caller,
        Err(problem) => return problem.into_response(),
    };
    if let Err(problem) = asked {
        return problem.into_response();
    }
    request.extensions_mut().insert(Asker(Arc::clone(&caller)));
    until_ended(next.run(request).await, caller)
}

fn refuse_method(request: &Request, allowed: &str) -> Response {
    let mut response = Problem::method(request.method(), request.uri()).into_response();
    if let Ok(allowed) = allowed.parse() {
        response.headers_mut().insert(ALLOW, allowed);
    }
    response
}

/// Who it is, if it may do this.
pub(super) async fn admit(
    shared: &Shared,
    need: Need,
    source: Source,
    headers: &HeaderMap,
) -> Result<Arc<Caller>, Problem> {
    let caller = identify(shared, source, headers).await?.ok_or_else(Problem::unauthorized)?;
    if need == Need::Socket && source.address.is_some() {
        shared.access.forbidden();
        let detail = "this is asked for over the unix socket in the server's data folder, which is \
                      its owner's; no key opens it";
        return Err(Problem::new(Kind::SocketOnly, detail));
    }
    may(&caller.principal, need).inspect_err(|_| shared.access.forbidden())?;
    Ok(caller)
}

fn may(who: &Principal, need: Need) -> Result<(), Problem> {
    let (scope, whose) = match need {
        // Whoever comes over the socket is the operator.
        Need::Nobody | Need::Socket => return Ok(()),
        Need::Person(scope) => (scope, true),
        Need::Key(scope) => (scope, who.visit().is_none()),
        Need::Operator(scope) => (scope, who.is_operator()),
    };
    if !who.may(scope) {
        let detail = format!("this needs a key with the scope {}", scope.as_str());
        return Err(Problem::scope(scope.as_str(), detail));
    }
    if whose {
        return Ok(());
    }
    Err(Problem::scope(scope.as_str(), wrong_sort(need, scope)))
}

fn wrong_sort(need: Need, scope: Scope) -> String {
    let scope = scope.as_str();
    match need {
        Need::Operator(_) => {
            format!("this needs a key of the operator, for every tenant, with the scope {scope}")
        }
        _ => format!("this needs a key with the scope {scope}; nobody can do it on the web page"),
    }
}

/// Who it is; none if it doesn't say.
async fn identify(
    shared: &Shared,
    source: Source,
    headers: &HeaderMap,
) -> Result<Option<Arc<Caller>>, Problem> {
    let access = &shared.access;
    if source.address.is_none() {
        return Ok(Some(access.operator()));
    }
    if let Some(anybody) = access.anybody() {
        return Ok(Some(anybody));
    }
    if headers.contains_key(AUTHORIZATION) {
        // What is no key is tried as one, so that it takes as long and counts as much.
        let found = access.with_key(key_in(headers).unwrap_or_default(), source.address);
        return match found.map_err(too_many)? {
            Some(caller) => Ok(Some(caller)),
            None => Err(Problem::unauthorized()),
        };
    }
    let Some(cookie) = cookie_in(headers) else { return Ok(None) };
    check_site(headers)?;
    match access.with_cookie(cookie, source.address).await? {
        Some(caller) => Ok(Some(caller)),
        // The browser would show it again and again.
        None => Err(Problem::unauthorized().without_cookie()),
    }
}

pub(super) fn key_in(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let (Some(only), None) = (all.next(), all.next()) else { return None };
    let (scheme, key) = only.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

/// The visit that a browser shows.
pub(super) fn cookie_in(headers: &HeaderMap) -> Option<&str> {
    let lists = headers.get_all(COOKIES).iter().filter_map(|list| list.to_str().ok());
    lists.flat_map(|list| list.split(';')).find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == COOKIE).then_some(value)
    })
}

fn too_many(failures: TooManyFailures) -> Problem {
    Problem::rate_limited("too many wrong keys or codes from this address", failures.retry_after_ms)
}

impl From<AccessError> for Problem {
    fn from(error: AccessError) -> Self {
        match error {
            AccessError::Field(error) => Self::field(error.field, error.why),
            AccessError::Missing(_) => Self::new(Kind::NotFound, error.to_string()),
            AccessError::Standing(why) => Self::new(Kind::WrongState, why),
            AccessError::Full(why) => Self::new(Kind::Full, why),
            AccessError::TooMany(failures) => too_many(failures),
            AccessError::Store(error) => error.into(),
            AccessError::Randomness => Self::new(Kind::Unavailable, error.to_string()),
        }
    }
}

/// When somebody is nobody any more.
pub(super) async fn until_nobody(caller: &Caller) {
    let left = caller
        .until
        .map(|until| Duration::from_millis(u64::try_from(until - clock::now()).unwrap_or(0)));
    tokio::select! {
        () = caller.ended.cancelled() => {}
        () = tokio::time::sleep(left.unwrap_or_default()), if left.is_some() => {}
    }
}

/// A stream ends when its reader is nobody any more.
pub(super) fn until_ended(response: Response, caller: Arc<Caller>) -> Response {
    let streams = response.headers().get(CONTENT_TYPE);
    if streams.is_none_or(|content| content != "text/event-stream" && content != LINES) {
        return response;
    }
    response.map(|body| {
        let ended = async move { until_nobody(&caller).await };
        Body::from_stream(body.into_data_stream().take_until(Box::pin(ended)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn keys_are_found_in_the_head() {
        let check = |values: &[&'static str], expect: Option<&str>| {
            let pairs: Vec<_> = values.iter().map(|value| ("authorization", *value)).collect();
            assert_eq!(key_in(&headers(&pairs)), expect, "{values:?}");
        };
        check(&["Bearer tk_a_b"], Some("tk_a_b"));
        check(&["bearer  tk_a_b "], Some("tk_a_b"));
        check(&["Basic tk_a_b"], None);
        check(&["tk_a_b"], None);
        check(&["Bearer a", "Bearer b"], None);
        check(&[""], None);
    }

    #[test]
    fn cookies_are_found_in_the_head() {
        let check = |values: &[&'static str], expect: Option<&str>| {
            let pairs: Vec<_> = values.iter().map(|value| ("cookie", *value)).collect();
            assert_eq!(cookie_in(&headers(&pairs)), expect, "{values:?}");
        };
        check(&["turnkeep_visit=abc"], Some("abc"));
        check(&["a=b; turnkeep_visit=abc; c"], Some("abc"));
        check(&["a=b", "turnkeep_visit=abc"], Some("abc"));
        check(&["not_turnkeep_visit=abc; turnkeep_visit_=x"], None);
        check(&[], None);
    }
}
