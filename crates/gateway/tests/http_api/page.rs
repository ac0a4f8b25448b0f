//! The page, the description of the API, and how the process is.

use turnkeep_core::ports::store::Store;

use crate::kit::World;

#[tokio::test]
async fn the_page_is_served_and_locked_down() {
    let world = World::new().await;
    let page = world.get("/").await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(page.text().contains("<title>Turnkeep</title>"));
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    assert_eq!(page.header("cache-control"), "no-cache");
    insta::assert_snapshot!(page.header("content-security-policy"));
    for line in page.text().lines() {
        for asset in line.split('"').filter(|part| part.starts_with("/assets/")) {
            let file = world.get(asset).await;
            assert_eq!(file.status, 200, "{asset}");
            assert_eq!(
                file.header("content-security-policy"),
                page.header("content-security-policy")
            );
        }
    }
    let script = world.get("/assets/app.js").await;
    assert_eq!(script.header("content-type"), "text/javascript; charset=utf-8");
}

#[tokio::test]
async fn a_known_file_is_not_sent_again() {
    let world = World::new().await;
    let first = world.get("/assets/style.css").await;
    let tag = first.header("etag");
    assert!(tag.starts_with('"') && tag.ends_with('"') && tag.len() == 34, "{tag}");
    for known in [tag.to_owned(), format!("\"x\", W/{tag}")] {
        let again = world.call("GET", "/assets/style.css", &[("if-none-match", &known)], "").await;
        assert_eq!((again.status, again.text(), again.header("etag")), (304, "", tag));
    }
    let other = world.call("GET", "/assets/style.css", &[("if-none-match", "\"x\"")], "").await;
    assert_eq!((other.status, other.body), (200, first.body.clone()));
    let head = world.call("HEAD", "/assets/style.css", &[], "").await;
    assert_eq!((head.status, head.text()), (200, ""));
}

#[tokio::test]
async fn the_description_names_every_address() {
    let world = World::new().await;
    let reply = world.get("/openapi.json").await;
    assert_eq!((reply.status, reply.header("content-type")), (200, "application/json"));
    let document = reply.json();
    let mut addresses = String::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let responses = operation["responses"].as_object().unwrap();
            let statuses: Vec<&str> = responses.keys().map(String::as_str).collect();
            addresses.push_str(&format!("{method} {path}: {}\n", statuses.join(" ")));
        }
    }
    insta::assert_snapshot!(addresses);
    let streams = &document["paths"]["/v1/sessions/{session}/events"]["get"]["responses"]["200"];
    assert!(streams["content"]["text/event-stream"].is_object(), "{streams}");
    let chat = &document["components"]["schemas"]["ChatRequest"];
    assert_eq!(chat["additionalProperties"], false, "{chat}");
    let parameters = document["paths"]["/v1/chat"]["post"]["parameters"].as_array().unwrap();
    assert!(parameters.iter().any(|one| one["name"] == "Idempotency-Key" && one["in"] == "header"));
    assert_eq!(document["info"]["title"], "Turnkeep");
    assert!(document["info"]["contact"]["name"].is_null());
}

#[tokio::test]
async fn the_process_tells_how_it_is() {
    let world = World::new().await;
    let health = format!(r#"{{"status":"ok","version":"{}"}}"#, env!("CARGO_PKG_VERSION"));
    assert_eq!(world.get("/healthz").await.text(), health);
    assert_eq!(world.get("/readyz").await.text(), r#"{"status":"ok"}"#);
    let metrics = world.get("/metrics").await;
    assert_eq!(metrics.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(metrics.text(), "turn_gateway_up 1\n");
    world.store.close().await;
    let ready = world.get("/readyz").await;
    assert_eq!(ready.status, 503);
    assert_eq!(ready.json()["reason"], "the store is closed");
}
