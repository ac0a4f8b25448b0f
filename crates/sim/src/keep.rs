//! How the simulator's store keeps a snapshot: a copy of its own, as a real store does, written
//! over the last one so that millions of commits need no new room.
//!
//! Everything is taken apart by name, so that a new field can't be forgotten here.

use std::cmp::Ordering;
use std::sync::Arc;

use turnkeep_core::Session;
use turnkeep_core::message::Pending;
use turnkeep_core::outbox::{OutPart, Outbox};
use turnkeep_core::session::Turn;

/// Copies a state over the one that stands there.
pub(crate) fn keep(kept: &mut Session, given: &Session) {
    let Session {
        epoch,
        generation,
        last_seq,
        last_timer,
        last_question,
        closed,
        failed,
        turn,
        queue,
        held,
        opted_in,
        notices,
        outbox: Outbox { parts, on_schedule_at },
        acts,
        spent,
        hint,
        rhythm,
        busy,
        model,
        paused,
        noticed_at,
        refused_at,
        history_from,
        forgotten,
        updated_at,
    } = given;
    match (&mut kept.turn, turn) {
        (Some(kept), Some(turn)) => keep_turn(kept, turn),
        (kept, turn) => kept.clone_from(turn),
    }
    keep_pending(&mut kept.queue, queue);
    put_all(&mut kept.held, held);
    put_all(&mut kept.notices, notices);
    put(&mut kept.paused, paused);
    kept.refused_at = *refused_at;
    kept.opted_in = *opted_in;
    keep_parts(&mut kept.outbox.parts, parts);
    kept.outbox.on_schedule_at = *on_schedule_at;
    if !(kept.acts.is_empty() && acts.is_empty()) {
        put(&mut kept.acts, acts);
    }
    put(&mut kept.spent, spent);
    put(&mut kept.model, model);
    if !(kept.rhythm.is_empty() && rhythm.is_empty()) {
        kept.rhythm.copy_from(rhythm);
    }
    (kept.epoch, kept.generation) = (*epoch, *generation);
    (kept.last_seq, kept.last_timer) = (*last_seq, *last_timer);
    kept.last_question = *last_question;
    (kept.closed, kept.failed) = (*closed, *failed);
    (kept.hint, kept.busy, kept.noticed_at) = (*hint, *busy, *noticed_at);
    (kept.history_from, kept.forgotten) = (*history_from, *forgotten);
    kept.updated_at = *updated_at;
}

fn keep_turn(kept: &mut Turn, given: &Turn) {
    let Turn {
        id,
        group,
        trust,
        epoch,
        attempt,
        errors,
        recoveries,
        chain,
        committed,
        stopping,
        started_at,
        stage,
        messages,
        given,
        absorbed,
        mailbox,
        query,
        open_calls,
        acted,
        finishing,
        held,
        done,
        answered,
        stopped_in,
    } = given;
    let common = overwrite(&mut kept.messages, messages);
    kept.messages.truncate(common);
    if common < messages.len() {
        kept.messages.extend(messages[common..].iter().cloned());
    }
    keep_pending(&mut kept.mailbox, mailbox);
    (kept.id, kept.group, kept.trust, kept.epoch) = (*id, *group, *trust, *epoch);
    (kept.attempt, kept.errors, kept.recoveries) = (*attempt, *errors, *recoveries);
    (kept.chain, kept.committed, kept.stopping) = (*chain, *committed, *stopping);
    (kept.started_at, kept.stage) = (*started_at, *stage);
    (kept.given, kept.absorbed, kept.query) = (*given, *absorbed, *query);
    put(&mut kept.open_calls, open_calls);
    (kept.acted, kept.finishing) = (*acted, *finishing);
    put(&mut kept.held, held);
    kept.done = *done;
    kept.answered.clone_from(answered);
    put(&mut kept.stopped_in, stopped_in);
}

/// Copies what differs: mostly nothing does, and it takes less to see that than to copy it.
fn put<T: Clone + PartialEq>(kept: &mut T, given: &T) {
    if kept != given {
        kept.clone_from(given);
    }
}

/// The same of lists, most of which are empty and stay so.
fn put_all<T: Clone + PartialEq>(kept: &mut Vec<T>, given: &Vec<T>) {
    if !(kept.is_empty() && given.is_empty()) {
        put(kept, given);
    }
}

fn keep_pending(kept: &mut Vec<Pending>, given: &[Pending]) {
    overwrite(kept, given);
    even_out(kept, given);
}

/// What both have places for is the same already; so is all of it then.
fn even_out<T: Clone>(kept: &mut Vec<T>, given: &[T]) {
    match kept.len().cmp(&given.len()) {
        Ordering::Less => kept.extend_from_slice(&given[kept.len()..]),
        Ordering::Equal => {}
        Ordering::Greater => kept.truncate(given.len()),
    }
}

/// Overwrites what both have places for; says how many those are.
fn overwrite(kept: &mut [Pending], given: &[Pending]) -> usize {
    for (kept, Pending { seq, at, trust, alone, group, body }) in kept.iter_mut().zip(given) {
        (kept.seq, kept.at, kept.trust) = (*seq, *at, *trust);
        (kept.alone, kept.group) = (*alone, *group);
        if !Arc::ptr_eq(&kept.body, body) {
            kept.body = Arc::clone(body);
        }
    }
    kept.len().min(given.len())
}

fn keep_parts(kept: &mut Vec<OutPart>, given: &[OutPart]) {
    for (kept, given) in kept.iter_mut().zip(given) {
        let OutPart { reply, part, state, tries, tries_before, since, until, text } = given;
        (kept.reply, kept.part, kept.state) = (*reply, *part, *state);
        (kept.tries, kept.tries_before) = (*tries, *tries_before);
        (kept.since, kept.until) = (*since, *until);
        if !Arc::ptr_eq(&kept.text, text) {
            kept.text = Arc::clone(text);
        }
    }
    even_out(kept, given);
}
