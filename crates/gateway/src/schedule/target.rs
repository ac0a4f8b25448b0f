//! Finds the session in which somebody is told.

use turnkeep_core::SessionKey;
use turnkeep_core::ports::store::StoreError;
use turnkeep_core::schedule::{Job, Target};
use turnkeep_core::session_key::SessionKind;

use crate::ingress::FieldError;
use crate::service::Gateway;

impl Gateway {
    /// Every session in which the target could be told; the one to begin with stands first.
    pub(super) fn places(&self, job: &Job) -> Result<Vec<SessionKey>, FieldError> {
        let wrong = |field, why: String| FieldError { field, why };
        let (name, channel) = match &job.to {
            Target::Session(key) if key.tenant() != job.tenant => {
                return Err(wrong("session", format!("is not one of tenant {:?}", job.tenant)));
            }
            Target::Session(key) if key.kind() == SessionKind::Cron => {
                return Err(wrong("session", "is a job's own: nobody reads it".to_owned()));
            }
            Target::Session(key) if self.policy_of_stored(key).is_none() => {
                return Err(wrong("session", "its channel is not configured".to_owned()));
            }
            Target::Session(key) => return Ok(vec![key.clone()]),
            Target::User { name, channel } => (name, channel.as_deref()),
        };
        let setup = self.setup();
        let routing = &setup.settings.routing;
        let user = routing.user(name).filter(|user| *user.tenant == *job.tenant);
        let configured =
            user.iter().flat_map(|user| user.ids.iter()).filter(|(_, id)| !id.ends_with('*'));
        let configured = configured.map(|(channel, id)| (channel.clone(), id.clone()));
        let paired = self.pairings().into_iter().filter_map(|row| {
            let with = row.with?;
            (*row.tenant == *job.tenant && *row.user == **name)
                .then_some((with.channel, with.person))
        });
        let (mut known, mut places) = (user.is_some(), Vec::new());
        for (on, id) in configured.chain(paired) {
            known = true;
            if channel.is_some_and(|channel| channel != &*on) {
                continue;
            }
            let own = user.and_then(|user| user.agent.as_deref());
            let account = routing.account_of(&job.tenant, &on).map(|account| &*account.agent);
            let agent = own.or(account).unwrap_or("default");
            let key = SessionKey::new(&job.tenant, agent, &on, SessionKind::Dm, &id);
            places.extend(key.ok().filter(|key| self.policy_of_stored(key).is_some()));
        }
        match (known, places.is_empty()) {
            (false, _) => Err(wrong("to", format!("no user is called {name:?}"))),
            (true, false) => Ok(places),
            (true, true) => Err(wrong(
                "to",
                match channel {
                    Some(channel) => {
                        format!("{name} has no name on {channel} that can be written to")
                    }
                    None => format!("{name} has no name that can be written to, only patterns"),
                },
            )),
        }
    }

    /// The place that was used last, or else the first one.
    pub(super) async fn target(
        &self,
        job: &Job,
    ) -> Result<Result<SessionKey, FieldError>, StoreError> {
        let places = match self.places(job) {
            Ok(places) => places,
            Err(wrong) => return Ok(Err(wrong)),
        };
        let mut last = None;
        if places.len() > 1 {
            for key in &places {
                let loaded = self.store().load(key).await?;
                let used = loaded.map(|loaded| loaded.session.updated_at);
                if used > last.and_then(|(at, _)| at) {
                    last = Some((used, key));
                }
            }
        }
        let key = last.map(|(_, key)| key).or(places.first()).cloned();
        let none = || FieldError { field: "to", why: "nobody can be told".to_owned() };
        Ok(key.ok_or_else(none))
    }
}
