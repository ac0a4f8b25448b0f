//! Hands that work on one board at once, and what each of them remembers of it: so that afterwards
//! it can be said what has to stand there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use turnkeep_core::SessionKey;
use turnkeep_core::ids::Seq;
use turnkeep_core::session::SessionStatus;
use turnkeep_core::switchboard::{
    Board, Changes, Heard, Noted, Observed, Resources, Row, may_become,
};

use super::super::lock::Guarded;
use super::super::shared::{Boards, Shared, Which};
use super::{TENANT, key};

/// Names that all of them want.
const NAMES: u64 = 8;
/// Seats of all of them together, fewer than a board keeps.
const SEATS: u64 = 48;

/// Draws the same for the same seed.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end.max(1)
    }
}

/// A session as the hand that made it knows it.
#[derive(Clone, Debug)]
struct Own {
    name: Option<Arc<str>>,
    state: SessionStatus,
    last_seq: u64,
}

/// One that works on the board.
pub(super) struct Hand<L> {
    shared: Arc<Shared<L>>,
    dice: Dice,
    who: u64,
    /// Where it sits, maybe with others.
    seat: Arc<str>,
    serial: u64,
    own: BTreeMap<SessionKey, Own>,
    /// The numbers that it was given since the last check, and the highest before.
    numbers: Vec<u32>,
    highest: u32,
    closed: BTreeSet<SessionKey>,
    switched: bool,
    /// What it shows, brought up to date by changes only.
    shown: BTreeMap<u32, Arc<Row>>,
    version: Option<u64>,
}

impl<L: Guarded<Boards>> Hand<L> {
    pub(super) fn new(shared: &Arc<Shared<L>>, who: u64, seed: u64) -> Self {
        Self {
            shared: Arc::clone(shared),
            dice: Dice::new(seed ^ (who + 1)),
            who,
            seat: format!("seat{}", who % SEATS).into(),
            serial: 0,
            own: BTreeMap::new(),
            numbers: Vec::new(),
            highest: 0,
            closed: BTreeSet::new(),
            switched: false,
            shown: BTreeMap::new(),
            version: None,
        }
    }

    fn board<R>(&self, act: impl FnOnce(&mut Board) -> R) -> R {
        self.shared.wanted(TENANT, act).unwrap().0
    }

    /// One operation of whatever kind. Creating and closing balance around so many sessions.
    pub(super) fn work(&mut self, sessions: u64, now: i64) {
        let many = self.shared.read(TENANT, |board| board.totals().sessions as u64).unwrap_or(0);
        match self.dice.below(400) {
            0..40 if many < sessions + sessions / 4 => self.create(now),
            0..80 if many > sessions => self.close(now),
            0..140 => self.switch(now),
            140..200 => self.rename(),
            200..330 => self.observe(now),
            330..386 => self.read(now),
            386..394 => self.follow(),
            394..398 => self.batch(),
            398 => self.look(),
            _ => self.clean(now),
        }
    }

    pub(super) fn create(&mut self, now: i64) {
        self.serial += 1;
        let key = key(&format!("{}-{}", self.who, self.serial));
        let row = self.board(|board| board.create(&key, None, now)).unwrap().unwrap();
        self.numbers.push(row.number);
        self.own.insert(key, Own { name: None, state: SessionStatus::Idle, last_seq: 0 });
    }

    /// A session of anybody.
    fn any(&mut self) -> Option<Arc<Row>> {
        let after =
            self.dice.below(u64::from(self.numbers.last().copied().unwrap_or(self.highest)) + 8);
        let after = u32::try_from(after).unwrap();
        let rows = |after| self.shared.page(TENANT, (after, 1), None).0.rows.pop();
        rows(after).or_else(|| rows(0))
    }

    /// One of its own that nobody closed, as far as it knows.
    fn mine(&mut self) -> Option<SessionKey> {
        let count = self.own.len() as u64;
        let at = self.dice.below(count);
        self.own.keys().nth(usize::try_from(at).unwrap()).cloned()
    }

    fn close(&mut self, now: i64) {
        let Some(row) = self.any() else { return };
        let seat = Arc::clone(&self.seat);
        if self.dice.below(2) == 0 {
            let closed = self.board(|board| board.close(row.number, Some(&seat)));
            // Somebody may have been quicker.
            self.closed.extend(closed.map(|closed| closed.closed.key.clone()));
        } else {
            let noted = self.tell(&row.key, SessionStatus::Closed, row.last_seq.0, now, &[]);
            if matches!(noted, Noted::Left(_)) {
                self.closed.insert(row.key.clone());
            }
        }
    }

    fn switch(&mut self, now: i64) {
        let Some(row) = self.any() else { return };
        let seat = Arc::clone(&self.seat);
        if let Some(row) = self.board(|board| board.switch(&seat, row.number, now)) {
            assert!(row.active.contains(&seat));
            self.switched = true;
        }
    }

    fn rename(&mut self) {
        let Some(key) = self.mine() else { return };
        let name = self.dice.below(NAMES + 2);
        let name: Option<Arc<str>> = (name < NAMES).then(|| format!("name {name}").into());
        let renamed = self.board(|board| {
            let Some(row) = board.by_key(&key) else { return Ok(None) };
            board.rename(row.number, name.as_ref())
        });
        match renamed {
            Ok(Some(_)) => self.own.get_mut(&key).unwrap().name = name,
            Ok(None) => drop(self.own.remove(&key)),
            Err(_) => {}
        }
    }

    fn tell(
        &self,
        key: &SessionKey,
        state: SessionStatus,
        last: u64,
        now: i64,
        said: &[Seq],
    ) -> Noted {
        let heard = Heard { said: said.to_vec(), ..Heard::default() };
        let seen = Observed {
            state,
            queued: 0,
            after: Seq(last.saturating_sub(1)),
            last_seq: Seq(last),
            updated_at: now,
            heard: &heard,
            question: None,
            for_operator: None,
            resources: Resources::default(),
            loaded: false,
        };
        self.shared.observe(key, &seen, now)
    }

    /// Its session does something; only one hand has each, as only one task does.
    fn observe(&mut self, now: i64) {
        let Some(key) = self.mine() else { return };
        if self.shared.read(TENANT, |board| board.by_key(&key)).flatten().is_none() {
            self.own.remove(&key);
            return;
        }
        let states = [
            SessionStatus::Idle,
            SessionStatus::Accumulating,
            SessionStatus::Processing,
            SessionStatus::WaitingForInput,
            SessionStatus::Failed,
        ];
        let to = states[usize::try_from(self.dice.below(5)).unwrap()];
        let own = self.own[&key].clone();
        if !may_become(own.state, to) {
            return;
        }
        let last = own.last_seq + 1;
        let said = [Seq(last)];
        let said = if self.dice.below(2) == 0 { &said[..] } else { &[] };
        match self.tell(&key, to, last, now, said) {
            Noted::Changed => {
                let own = self.own.get_mut(&key).unwrap();
                (own.state, own.last_seq) = (to, last);
            }
            // Closed between the look and the word: it is a session anew, and somebody else's.
            Noted::Entered(number) => {
                self.numbers.push(number);
                self.shared.forget(&key);
                self.own.remove(&key);
            }
            noted => panic!("{noted:?} of {key}: {own:?} to {to:?}"),
        }
    }

    fn read(&mut self, now: i64) {
        let Some(row) = self.any() else { return };
        let kind = self.dice.below(3);
        self.board(|board| match kind {
            0 => board.read(row.number, row.last_seq, now),
            1 => board.touch(row.number, now),
            _ => board.save(row.number),
        });
    }

    /// What is idle for a while sleeps.
    fn clean(&self, now: i64) {
        let mut after = Some(0);
        while let Some(place) = after {
            let cleaned = self.board(|board| board.cleanup(now + 5, place, 32));
            assert_eq!(cleaned.repaired, 0, "nothing is ever broken");
            after = cleaned.next;
        }
    }

    fn look(&self) {
        let list = self.shared.list(TENANT);
        let numbers: Vec<u32> = list.iter().map(|row| row.number).collect();
        assert!(numbers.is_sorted_by(|one, other| one < other), "an order: {numbers:?}");
        let names: Vec<_> = list.iter().filter_map(|row| row.name.clone()).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
        let keys: BTreeSet<_> = list.iter().map(|row| &row.key).collect();
        assert_eq!(keys.len(), numbers.len());
        for row in self.shared.read(TENANT, |board| board.waiting()).unwrap_or_default() {
            assert_eq!(row.state, SessionStatus::WaitingForInput, "{row:?}");
        }
    }

    /// Brings what it shows up to date.
    fn follow(&mut self) {
        let seat = Some(&*self.seat);
        let (changes, active) = self.shared.since(TENANT, self.version, seat);
        let Changes { version, whole, rows, gone, .. } = changes;
        if whole {
            self.shown.clear();
        }
        self.shown.extend(rows.into_iter().map(|row| (row.number, row)));
        for number in gone {
            self.shown.remove(&number);
        }
        self.version = Some(version);
        // What it is told to look at it can show.
        assert!(active.is_none_or(|number| self.shown.contains_key(&number)), "{active:?}");
    }

    /// States of several at once, of which none is legal, or changes anything.
    fn batch(&self) {
        let list = self.shared.list(TENANT);
        let waits = |row: &&Arc<Row>| matches!(row.state, SessionStatus::WaitingForInput);
        let states: Vec<_> = list.iter().filter(waits).take(3).collect();
        let states: Vec<_> =
            states.iter().map(|row| (row.key.clone(), SessionStatus::Hibernated)).collect();
        // By now some of them may be idle, and may sleep.
        self.board(|board| board.process(&states));
    }
}

/// Whether the board agrees with itself. Anybody may work meanwhile.
pub(super) fn is_whole<L: Guarded<Boards>>(shared: &Shared<L>) {
    let faults = shared.read(TENANT, |board| board.faults()).unwrap_or_default();
    assert_eq!(faults, Vec::<String>::new());
}

/// Whether the board holds what the hands remember, and nothing else. Nobody works meanwhile.
pub(super) fn check<L: Guarded<Boards>>(shared: &Shared<L>, hands: &mut [Hand<L>]) {
    is_whole(shared);
    let closed: BTreeSet<SessionKey> =
        hands.iter_mut().flat_map(|hand| std::mem::take(&mut hand.closed)).collect();
    let list = shared.list(TENANT);
    let rows: BTreeMap<&SessionKey, &Arc<Row>> = list.iter().map(|row| (&row.key, row)).collect();
    let switched: BTreeSet<Arc<str>> =
        hands.iter().filter(|hand| hand.switched).map(|hand| Arc::clone(&hand.seat)).collect();
    let mut made = 0;
    for hand in hands.iter_mut() {
        hand.own.retain(|key, _| !closed.contains(key));
        made += hand.own.len();
        for (key, own) in &hand.own {
            let row = rows.get(key).unwrap_or_else(|| panic!("{key} is lost"));
            assert_eq!((&row.name, row.last_seq.0), (&own.name, own.last_seq), "{key}");
            let slept = own.state == SessionStatus::Idle && row.state == SessionStatus::Hibernated;
            assert!(row.state == own.state || slept, "{key}: {own:?}, {:?}", row.state);
        }
        let active = shared.read(TENANT, |board| board.active(&hand.seat)).flatten();
        let expected = switched.contains(&hand.seat) && !rows.is_empty();
        assert_eq!(active.is_some(), expected, "{}", hand.seat);
        hand.follow();
        let shown: Vec<_> = hand.shown.values().collect();
        assert_eq!(shown, list.iter().collect::<Vec<_>>(), "what {} shows", hand.seat);
    }
    assert_eq!(made, rows.len(), "a session is there that nobody made");
    let highest = hands.iter().map(|hand| hand.highest).max().unwrap_or(0);
    let given: Vec<u32> =
        hands.iter_mut().flat_map(|hand| std::mem::take(&mut hand.numbers)).collect();
    let once: BTreeSet<u32> = given.iter().copied().collect();
    assert!(once.len() == given.len() && once.first().is_none_or(|first| *first > highest));
    for hand in hands.iter_mut() {
        hand.highest = once.last().copied().unwrap_or(highest);
    }
    // Somebody writes it down.
    while shared.take_unsaved(TENANT, Which::All).is_some() {}
}
