//! `dead-letters redrive` and `purge` while no relay runs.

use serde_json::{Value, json};

use crate::support::{Home, lines_of};

/// The path of `on_call` cannot be rendered for a sample without a product.
const ROUTES: &str = "
version: 1
sources: { samples: { recording: { path: samples.ndjson }, expects: lta } }
sinks:
  on_call: { file: { path: 'products/{{ productId }}.ndjson' } }
  archive: { file: { path: archive.ndjson } }
routes: [{ name: all, to: on_call }]
unrouted: dead_letter
";

fn sample(correlation_id: &str, product: Option<&str>) -> String {
    let body = json!({ "correlationId": correlation_id, "productId": product, "responseStatus": "ERROR" });
    let properties = json!({ "headers": { "regards.tenant": "esa" } });
    format!("{}\n", json!({ "properties": properties, "body": body.to_string() }))
}

/// The home of a stopped relay, with a dead letter for each sample without a product.
async fn home(samples: &[(&str, Option<&str>)]) -> Home {
    let home = Home::new(ROUTES);
    home.write("samples.ndjson", &samples.iter().map(|(id, product)| sample(id, *product)).collect::<String>());
    let relay = home.start();
    assert_eq!(relay.ended().await.code(), Some(0));
    home
}

fn ids(home: &Home) -> Vec<Value> {
    home.dead_letters().iter().map(|letter| letter["id"].clone()).collect()
}

#[tokio::test]
async fn a_dead_letter_that_can_still_not_be_rendered_is_left() {
    let home = home(&[("c-1", None), ("c-2", None)]).await;
    let before = ids(&home);
    let done: Value = serde_json::from_str(&home.does(&["dead-letters", "redrive", "--json"])).unwrap();
    assert_eq!(done["redriven"], 0, "{done}");
    let left = done["left"].as_object().unwrap();
    assert_eq!(left.values().collect::<Vec<_>>(), [2], "one reason for both: {done}");
    assert!(left.keys().all(|why| why.contains("on_call") && why.contains("productId")), "{done}");
    assert_eq!(ids(&home), before, "the same letters, with their numbers");

    let done: Value =
        serde_json::from_str(&home.does(&["dead-letters", "redrive", "--to", "archive", "--json"])).unwrap();
    assert_eq!(done["redriven"], 2, "another sink can take them: {done}");
}

#[tokio::test]
async fn a_limit_takes_the_oldest_dead_letters() {
    let home = home(&[("c-1", None), ("c-2", None), ("c-3", None), ("c-4", None)]).await;
    assert_eq!(home.does(&["dead-letters", "purge", "--sink", "on_call", "--limit", "1", "--json"]), r#"{"purged":1}"#);
    let left: Vec<_> = home.dead_letters().iter().map(|letter| letter["correlationId"].clone()).collect();
    assert_eq!(left, ["c-4", "c-3", "c-2"], "`list` shows the newest first");
    home.does(&["dead-letters", "redrive", "--to", "archive", "--limit", "2"]);
    let left: Vec<_> = home.dead_letters().iter().map(|letter| letter["correlationId"].clone()).collect();
    assert_eq!(left, ["c-4"]);
    home.write("samples.ndjson", "");
    assert_eq!(home.start().ended().await.code(), Some(0));
    let redriven: Vec<_> =
        lines_of(home.data("archive.ndjson")).iter().map(|event| event["correlationId"].clone()).collect();
    assert_eq!(redriven, ["c-2", "c-3"]);
}

#[tokio::test]
async fn an_unknown_sink_or_status_is_an_error_with_a_suggestion() {
    let home = home(&[("c-1", None)]).await;
    for verb in ["list", "redrive", "purge"] {
        for (filter, word, meant) in [("--sink", "oncall", "on_call"), ("--status", "error", "ERROR")] {
            let asked = home.run(&["dead-letters", verb, filter, word]);
            let said = String::from_utf8_lossy(&asked.stderr);
            assert_eq!(asked.status.code(), Some(2), "{verb} {filter} {word}: {said}");
            assert!(said.contains(word) && said.contains(&format!("did you mean `{meant}`")), "{said}");
        }
    }
    assert_eq!(ids(&home).len(), 1);
    // A known sink or status without dead letters is no error.
    assert_eq!(home.does(&["dead-letters", "list", "--json", "--sink", "archive"]), "");
    assert_eq!(home.does(&["dead-letters", "list", "--json", "--status", "DENIED"]), "");
}

#[tokio::test]
async fn a_purge_of_all_dead_letters_needs_a_confirmation() {
    let home = home(&[("c-1", None), ("c-2", None)]).await;
    let purged = home.run(&["dead-letters", "purge", "--json"]);
    let said = String::from_utf8_lossy(&purged.stderr);
    assert_eq!(purged.status.code(), Some(2), "{said}");
    assert!(said.contains("--yes"), "{said}");
    assert_eq!(ids(&home).len(), 2);

    let tried = home.does(&["dead-letters", "purge", "--dry-run", "--json"]);
    assert_eq!(tried, r#"{"purged":2}"#);
    assert_eq!(home.does(&["dead-letters", "purge", "--dry-run", "--limit", "1"]), "1 dead letter would be purged");
    assert_eq!(ids(&home).len(), 2);

    assert_eq!(home.does(&["dead-letters", "purge", "--yes", "--json"]), r#"{"purged":2}"#);
    assert!(ids(&home).is_empty());
}
