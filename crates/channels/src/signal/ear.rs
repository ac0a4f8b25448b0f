//! Hears one account: each envelope is dealt with for good before the next one is looked at.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::sleep;
use turnkeep_core::ports::intake::{Attachment, Chat, Heard, Intake, Person, Said, Taken};

use super::envelope::{self, Enclosed, Letter, Read, Us, Words};
use super::keeping::{InHand, Kept, blocking};
use super::settings::longer;
use super::{CHANNEL, Inner, SignalAccount, Way, accounts, aside};

/// Receipts that may wait.
const RECEIPTS_MAX: usize = 1024;
/// How often an envelope may make us stumble, before it is given up.
const STUMBLES_MAX: usize = 3;
/// Receipts that one call carries.
const RECEIPTS_A_CALL_MAX: usize = 100;

/// A message that was read: who wrote it and when.
struct Receipt {
    sender: Arc<str>,
    message_id: Arc<str>,
}

/// Hears one account.
pub(super) struct Ear {
    pub(super) inner: Arc<Inner>,
    pub(super) account: SignalAccount,
    intake: Arc<dyn Intake>,
    us: Mutex<Us>,
    /// How often something was passed over, by why.
    passed: Mutex<BTreeMap<String, u64>>,
    receipts: mpsc::Sender<Receipt>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ear {
    /// The ear, and what tells people that their messages were read.
    pub(super) fn new(
        inner: &Arc<Inner>,
        account: &SignalAccount,
        intake: &Arc<dyn Intake>,
    ) -> (Arc<Self>, impl Future<Output = ()> + Send + 'static) {
        let (receipts, inbox) = mpsc::channel(RECEIPTS_MAX);
        let ear = Self {
            inner: Arc::clone(inner),
            account: account.clone(),
            intake: Arc::clone(intake),
            us: Mutex::new(Us { number: Arc::clone(&account.number), uuid: None }),
            passed: Mutex::default(),
            receipts,
        };
        ear.look_up_our_uuid();
        (Arc::new(ear), tell_read(Arc::clone(inner), account.clone(), inbox))
    }

    /// Mentions and answers may name us by it.
    pub(super) fn look_up_our_uuid(&self) {
        if let Way::Child { config_dir, .. } = &self.inner.settings.way
            && let Some(uuid) = accounts::uuid_of(config_dir, &self.account.number)
        {
            locked(&self.us).uuid = Some(uuid);
        }
    }

    /// Whether an envelope on `account` is ours to hear; without a name it is.
    pub(super) fn is_ours(&self, account: Option<&str>) -> bool {
        account.is_none_or(|account| account == &*self.account.number)
    }

    /// Deals with one envelope. `old` is what an earlier run of ours was given.
    pub(super) async fn hear(&self, params: &Value, old: bool) {
        if !old {
            self.inner.health.connected();
        }
        self.read_to(params, old).await;
        // Whatever it was: ours is the only copy, or there is none.
        if let Way::Child { config_dir, .. } = &self.inner.settings.way {
            let aside = aside::folder(&self.inner);
            forget(&config_dir.join("attachments"), aside, envelope::files(params)).await;
        }
    }

    async fn read_to(&self, params: &Value, old: bool) {
        // One that makes us stumble must not stop those behind it.
        for _ in 0..STUMBLES_MAX {
            if stumbles(self.deal_with(params, old)).await.is_none() {
                return;
            }
        }
        tracing::error!(account = %self.account.name, "Signal: an envelope was given up");
        self.inner.health.taking(&self.account.name, false);
        self.pass("made us stumble");
    }

    async fn deal_with(&self, params: &Value, old: bool) {
        let us = locked(&self.us).clone();
        let name = &self.account.name;
        let letter = match envelope::read(params, &us) {
            Read::Said(letter) => letter,
            Read::Ours(uuid) => {
                // What signal-cli keeps of us counts for more.
                if us.uuid.is_none() {
                    locked(&self.us).uuid = uuid;
                }
                return self.pass("of our own devices");
            }
            Read::Passed(why) => return self.pass(why),
            Read::Unreadable(why) => {
                self.inner.health.readable(name, Some(&why));
                return self.pass(&why);
            }
        };
        self.inner.health.readable(name, None);
        if old && letter.words == Words::Typing {
            return self.pass("typing of long ago");
        }
        self.inner.health.taking(name, true);
        // Until it is dealt with, nobody removes what was stored of it.
        let (heard, _in_hand) = self.heard(*letter).await;
        self.offer(heard).await;
        self.inner.health.taking(name, false);
    }

    /// Whether an envelope is being taken.
    pub(super) fn is_busy(&self) -> bool {
        self.inner.health.is_taking(&self.account.name)
    }

    /// Counts what is passed over; says so at the first time, the second, the fourth, and so on.
    pub(super) fn pass(&self, why: &str) {
        let mut passed = locked(&self.passed);
        // What signal-cli says may be different each time.
        let known = passed.contains_key(why) || passed.len() < 100;
        let count = passed.entry(if known { why } else { "other" }.to_owned()).or_default();
        *count += 1;
        if count.is_power_of_two() {
            tracing::info!(account = %self.account.name, why, count, "Signal: passed over");
        }
    }

    /// Offers it until it is durable, or refused, or ignored.
    async fn offer(&self, heard: Heard) {
        let (name, health) = (&self.account.name, &self.inner.health);
        let is_typing = heard.said == Said::Typing;
        let is_message = matches!(heard.said, Said::Message { .. } | Said::Edit { .. });
        let receipt = Receipt {
            sender: Arc::clone(&heard.sender.id),
            message_id: Arc::clone(&heard.message_id),
        };
        let mut pause = Duration::ZERO;
        let taken = loop {
            match self.intake.take(heard.clone()).await {
                Taken::Unavailable(_) if is_typing => break Taken::Ignored("too late"),
                Taken::Unavailable(why) => {
                    health.durable(name, Some(&why));
                    pause = longer(pause, self.inner.settings.patience.offer);
                    sleep(pause).await;
                }
                taken => break taken,
            }
        };
        if pause > Duration::ZERO {
            health.durable(name, None);
        }
        if taken == Taken::Accepted && is_message && self.inner.settings.receipts {
            // Where too many wait, somebody does not see that a message was read.
            let _ = self.receipts.try_send(receipt);
        }
    }

    /// What was said, with its attachments stored.
    async fn heard(&self, letter: Letter) -> (Heard, Vec<InHand>) {
        let mut in_hand = Vec::new();
        let Letter { chat, sender, message_id, sent_at, disappears_s, words } = letter;
        let said = match words {
            Words::Message { text, mentions_us, quoted, quotes_us, enclosed } => {
                let account = &self.account.name;
                let may =
                    !enclosed.is_empty() && self.intake.may_store(CHANNEL, account, &chat, &sender);
                let mut attachments = Vec::with_capacity(enclosed.len());
                for one in enclosed {
                    let (attachment, held) = self.attachment(one, may, &chat, &sender).await;
                    attachments.push(attachment);
                    in_hand.extend(held);
                }
                let text = text.into();
                Said::Message { text, mentions_us, quoted, quotes_us, attachments }
            }
            Words::Edit { of, text, mentions_us } => {
                Said::Edit { of, text: text.into(), mentions_us }
            }
            Words::Reaction { sign, of, author, to_us, removed } => {
                Said::Reaction { sign, of, author, to_us, removed }
            }
            Words::Typing => Said::Typing,
        };
        let account = Arc::clone(&self.account.name);
        let channel = CHANNEL;
        let heard =
            Heard { channel, account, chat, sender, message_id, sent_at, disappears_s, said };
        (heard, in_hand)
    }

    /// Where a signal-cli of ours keeps an attachment.
    fn copy_of(&self, enclosed: &Enclosed) -> Option<PathBuf> {
        let Way::Child { config_dir, .. } = &self.inner.settings.way else { return None };
        Some(config_dir.join("attachments").join(&**enclosed.id.as_ref()?))
    }

    async fn attachment(
        &self,
        enclosed: Enclosed,
        may: bool,
        chat: &Chat,
        sender: &Person,
    ) -> (Attachment, Option<InHand>) {
        let limit = self.inner.settings.attachments_bytes_max;
        let stored = match enclosed.fleeting {
            Some(why) => Err(why),
            None if !may => Err("its sender may not have attachments stored"),
            None if limit == 0 => Err("attachments are not stored"),
            None if enclosed.bytes > limit => Err("it is too large"),
            None => self.store(&enclosed, chat, sender).await,
        };
        let (in_hand, bytes, left_out) = match stored {
            Ok((in_hand, bytes)) => (Some(in_hand), bytes, None),
            Err(why) => (None, enclosed.bytes, Some(why)),
        };
        let Enclosed { name, media_type, .. } = enclosed;
        let hash = in_hand.as_ref().map(|in_hand| Arc::clone(&in_hand.hash));
        (Attachment { name, media_type, bytes, hash, left_out }, in_hand)
    }

    async fn store(
        &self,
        enclosed: &Enclosed,
        chat: &Chat,
        sender: &Person,
    ) -> Result<(InHand, u64), &'static str> {
        let Some(id) = &enclosed.id else { return Err("signal-cli did not get it") };
        let limit = self.inner.settings.attachments_bytes_max;
        let all = Arc::clone(&self.inner.settings.attachments);
        let kept = if let Some(path) = self.copy_of(enclosed) {
            let aside = aside::folder(&self.inner);
            blocking(move || all.keep(aside::open(&path, aside.as_deref())?, limit)).await
        } else {
            let bytes = self.fetch(id, chat, sender).await?;
            blocking(move || all.keep(bytes.as_slice(), limit)).await
        };
        match kept {
            Ok(Kept::Stored(in_hand, bytes)) => {
                locked(&self.inner.stored).remember(id, &in_hand.hash, bytes);
                Ok((in_hand, bytes))
            }
            Ok(Kept::TooLarge) => Err("it is too large"),
            Ok(Kept::NoRoom) => {
                tracing::warn!(
                    "an attachment is not stored: all of them together are at their limit, \
                     [signal] attachments_total_bytes_max"
                );
                Err("there is no more room for attachments")
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Or an envelope before this one had the same.
                let known = locked(&self.inner.stored).find(id);
                let taken = known.and_then(|(hash, bytes)| {
                    Some((self.inner.settings.attachments.take(&hash)?, bytes))
                });
                taken.ok_or("signal-cli did not get it")
            }
            Err(error) => {
                tracing::warn!(%error, "an attachment can't be stored");
                Err("it could not be stored")
            }
        }
    }

    /// Gets an attachment from a daemon.
    async fn fetch(&self, id: &str, chat: &Chat, sender: &Person) -> Result<Vec<u8>, &'static str> {
        let Some(caller) = self.inner.caller() else { return Err("signal-cli is out of reach") };
        let mut params = json!({"account": &*self.account.number, "id": id});
        match chat {
            Chat::Direct => params["recipient"] = json!(&*sender.id),
            Chat::Group { id, .. } => params["groupId"] = json!(&**id),
        }
        let answer = caller.call("getAttachment", &params, self.inner.settings.patience.call).await;
        let answer = answer.map_err(|error| {
            tracing::warn!(why = error.words(), "an attachment can't be fetched");
            "it could not be fetched"
        })?;
        let data = answer.get("data").and_then(Value::as_str);
        let bytes = data.and_then(|data| STANDARD.decode(data).ok());
        bytes.ok_or("it could not be fetched")
    }
}

/// Runs it to its end; something if it panicked.
async fn stumbles(work: impl Future<Output = ()>) -> Option<()> {
    let mut work = pin!(work);
    poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context)));
        polled.map_or(Poll::Ready(Some(())), |polled| polled.map(|()| None))
    })
    .await
}

/// Removes what signal-cli keeps of attachments.
async fn forget(folder: &Path, aside: Option<PathBuf>, names: Vec<Arc<str>>) {
    if names.is_empty() {
        return;
    }
    let remove = move |path: PathBuf| match aside::put(&path, aside.as_deref()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "can't be removed");
        }
        _ => {}
    };
    let folder = folder.to_owned();
    let removed = blocking(move || {
        for name in names {
            // What came with the message itself, to be shown before the rest is there.
            remove(folder.join(format!("{name}.preview")));
            remove(folder.join(&*name));
        }
        Ok(())
    });
    let _ = removed.await;
}

/// Tells people that their messages were read, several in one call where they wait.
async fn tell_read(inner: Arc<Inner>, account: SignalAccount, mut inbox: mpsc::Receiver<Receipt>) {
    let mut waiting = Vec::new();
    while inbox.recv_many(&mut waiting, RECEIPTS_A_CALL_MAX).await > 0 {
        let mut by_sender = BTreeMap::<Arc<str>, Vec<i64>>::new();
        for Receipt { sender, message_id } in waiting.drain(..) {
            by_sender.entry(sender).or_default().extend(message_id.parse::<i64>().ok());
        }
        for (sender, timestamps) in by_sender {
            let Some(caller) = inner.caller() else { continue };
            let params = json!({
                "account": &*account.number,
                "recipient": &*sender,
                "targetTimestamp": timestamps,
                "type": "read",
            });
            let told = caller.call("sendReceipt", &params, inner.settings.patience.call).await;
            if let Err(error) = told {
                tracing::debug!(why = error.words(), "a receipt was not sent");
            }
        }
    }
}
