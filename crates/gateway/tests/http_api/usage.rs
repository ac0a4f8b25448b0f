//! `GET /v1/usage`: sums in lines, and no tenant sees another's.

use std::sync::Arc;

use serde_json::{Value, json};
use turnkeep_core::access::{Principal, Visit};
use turnkeep_core::ids::{Attempt, Epoch, TurnGroupId};
use turnkeep_core::journal::EventBody;
use turnkeep_core::ports::store::{
    Commit, CommitOutcome, Rows, Store, TurnRow, TurnStatus, UsageRow,
};
use turnkeep_core::usage::{Day, Usage};
use turnkeep_core::{Event, RunTag, Seq, Session, SessionKey, SessionKind, TurnId, Version};

use crate::access::{call, key, world};
use crate::kit::World;

/// A session that used so many tokens at the beginning of this day.
async fn used(world: &World, tenant: &str, customer: &str, day: &str, tokens: u64) {
    let key = SessionKey::new(tenant, "default", "web", SessionKind::Dm, customer).unwrap();
    let at = day.parse::<Day>().unwrap().start();
    let (turn, attempt) = (TurnId(uuid::Uuid::from_u128(u128::from(tokens))), Attempt(1));
    let usage = Usage { model: "m".into(), output_tokens: tokens, ..Usage::default() };
    let mut session = Session { last_seq: Seq(1), updated_at: at, ..Session::new() };
    let run = RunTag { turn, epoch: Epoch(1), attempt };
    session.spent.get_or_insert_default().book(run, 1, &usage.sums(), None);
    let (model, sums) = (Arc::clone(&usage.model), usage.sums());
    let body = EventBody::UsageRecorded { turn_id: turn, attempt, agent: None, usage };
    let turn_row = TurnRow {
        id: turn,
        group: TurnGroupId(turn.0),
        status: TurnStatus::Failed,
        attempt,
        epoch: run.epoch,
        started_at: at,
        ended_at: Some(at),
        message_ids: [].into_iter().collect(),
        reply: None,
        error: None,
        version: None,
        by: None,
    };
    let rows = Rows {
        turns: vec![turn_row].into(),
        events: vec![Event { seq: Seq(1), at, body }],
        usage: vec![UsageRow { turn, at, agent: None, model, sums }],
        ..Rows::default()
    };
    let commit =
        Commit { key, expected: Version(0), session: Arc::new(session), wake_at: None, rows };
    let outcome = world.store.commit(commit).await.unwrap();
    assert!(matches!(outcome, CommitOutcome::Committed(_)));
}

async fn rows(world: &World, key: &str, query: &str) -> Vec<Value> {
    let answer = call(world, "GET", &format!("/v1/usage{query}"), key, None).await;
    assert_eq!(answer.status, 200, "{query}: {}", answer.text());
    answer.json()["rows"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_tenant_sees_only_its_own() {
    let world = world().await;
    used(&world, "acme", "anna", "2026-11-20", 1).await;
    used(&world, "acme", "ben", "2026-11-21", 10).await;
    used(&world, "other", "carl", "2026-11-21", 100).await;
    let (operator, _) = key(&world, "*", "read", None).await;
    let (acme, _) = key(&world, "acme", "read", None).await;
    let tokens = async |key: &str, query: &str| {
        let rows = rows(&world, key, query).await;
        rows.iter().map(|row| row["output_tokens"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    for by in ["tenant", "customer", "session", "agent", "model", "day"] {
        let all: u64 = tokens(&operator, &format!("?by={by}")).await.iter().sum();
        let own: u64 = tokens(&acme, &format!("?by={by}")).await.iter().sum();
        assert_eq!((all, own), (111, 11), "{by}");
    }
    assert_eq!(tokens(&acme, "?session=other:default:web:dm:carl").await, [] as [u64; 0]);
    assert_eq!(tokens(&acme, "?customer_id=anna").await, [1]);
    assert_eq!(tokens(&acme, "?from=2026-11-21").await, [10]);
    assert_eq!(tokens(&acme, "?to=2026-11-20").await, [1]);
    let other = call(&world, "GET", "/v1/usage?tenant_id=other", &acme, None).await;
    assert_eq!(other.status, 404);
    let nobody = json!({
        "tenant_id": "acme", "customer_id": "ben", "requests": 1, "input_tokens": 0,
        "output_tokens": 10, "cached_tokens": 0, "cache_write_tokens": 0, "cost_micros": null,
        "unpriced_requests": 1,
    });
    assert_eq!(rows(&world, &acme, "?by=customer&limit=1").await, [nobody]);
    world.end().await;
}

#[tokio::test]
async fn what_makes_no_sense_is_named() {
    let world = world().await;
    let (operator, _) = key(&world, "*", "read", None).await;
    let check = async |query: &str, field: &str| {
        let answer = call(&world, "GET", &format!("/v1/usage?{query}"), &operator, None).await;
        assert_eq!((answer.status, answer.json()["field"].as_str()), (422, Some(field)));
    };
    check("by=moon", "by").await;
    check("from=yesterday", "from").await;
    check("to=2026-02-30", "to").await;
    check("session=x", "session").await;
    check("customer_id=anna", "tenant_id").await;
    check("limit=0", "limit").await;
    world.end().await;
}

#[tokio::test]
async fn who_is_signed_in_on_the_page_is_not_told_what_it_costs() {
    let world = world().await;
    used(&world, "acme", "anna", "2026-11-20", 1).await;
    let visit = Visit { tenant: "acme".into(), customer: "anna".into(), agent: None };
    let code = world.access.invite(&Principal::operator(), visit).await.unwrap().code;
    let cookie = world.access.sign_in(&code, None).await.unwrap().unwrap().cookie;
    let cookie = format!("turnkeep_visit={cookie}");
    let (key, _) = key(&world, "acme", "admin", None).await;
    let bearer = format!("Bearer {key}");
    let session = "/v1/sessions/acme%3Adefault%3Aweb%3Adm%3Aanna";
    let close = format!("{session}/close");
    assert_eq!(call(&world, "POST", &close, &key, Some(json!({}))).await.status, 200);
    let turn = format!("/v1/turns/{}", uuid::Uuid::from_u128(1));
    for (name, value, sees) in [("cookie", &cookie, false), ("authorization", &bearer, true)] {
        let headers = [(name, value.as_str()), ("sec-fetch-site", "same-origin")];
        let get = async |path: &str| {
            let answer = world.call("GET", path, &headers, "").await;
            assert_eq!(answer.status, 200, "{path} {}", answer.text());
            answer.json()
        };
        let turns = get(&format!("{session}/turns")).await;
        for shown in [&get(session).await, &get(&turn).await, &turns["turns"][0]] {
            assert_eq!(shown.get("usage").is_some(), sees, "{shown}");
        }
        let mut events = world.watch(&format!("{session}/events"), &headers).await;
        let heard = events.until("session.closed").await;
        assert_eq!(heard.iter().any(|heard| heard.event == "usage.recorded"), sees, "{heard:?}");
    }
    world.end().await;
}
