//! The output of `dead-letters`, as text and JSON.

// expect-test writes the snapshots like this.
#![allow(clippy::needless_raw_string_hashes)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use expect_test::{Expect, expect};
use tempfile::TempDir;

use super::*;
use crate::clock::WallTime;
use crate::config::{DeadLettersConfig, SpoolConfig};
use crate::event::{
    DecodeOptions, Event, ExpectedFamily, FAMILIES, HeaderValue, Message, Properties, SourceName, Validation,
};
use crate::rules::SinkName;
use crate::source::{EntryId, Receipt};
use crate::spool::{DeadLetter, Spool, SpoolReader};

const GRACE: Duration = Duration::from_secs(20);

fn message(body: &[u8]) -> Arc<Message> {
    let tenant = HeaderValue::Text("esa".to_owned());
    Arc::new(Message {
        source: SourceName::new("regards"),
        body: bytes::Bytes::copy_from_slice(body),
        properties: Properties {
            app_id: Some("rs-lta-manager".to_owned()),
            timestamp: Some(1_681_461_977),
            headers: vec![("regards.tenant".to_owned(), tenant)],
            ..Properties::default()
        },
        redelivered: false,
    })
}

/// Two dead letters: the first can't be decoded, the second was refused. Both have control characters.
async fn kept() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let limits = DeadLettersConfig { keep: None, max_size: 1 << 20, to: None };
    let config = SpoolConfig::at(directory.path().join("spool.db"));
    let spool = Spool::open(&config, &limits).unwrap();
    let options = DecodeOptions {
        expects: ExpectedFamily::One(FAMILIES.iter().find(|family| family.name == "lta").unwrap()),
        validation: Validation::Lenient,
        tenant: None,
        max_body: 1024,
    };
    let unreadable = message(b"\xff\x1b[2J\n\tx");
    let invalid = *Event::decode(&unreadable, &options).unwrap_err();
    let refused = message(b"{\"correlationId\": \"c\\u001b-1\", \"responseStatus\": \"ERROR\", \"more\": [1, 2]}\r\n");
    let event = Event::decode(&refused, &options).unwrap();
    let refused = DeadLetter::of_event(&event, refused, Reason::Refused, "413 Payload Too Large\u{9b}").for_sink(
        SinkName::new("on_call"),
        None,
        3,
    );
    let (to, mut settled) = tokio::sync::mpsc::unbounded_channel();
    spool.store_dead_letter(DeadLetter::unreadable(invalid, unreadable), Receipt::new(EntryId(1), to.clone()));
    spool.store_dead_letter(refused, Receipt::new(EntryId(2), to));
    while settled.recv().await.is_some() {}
    spool.close(GRACE).await;
    directory
}

fn reader(path: PathBuf) -> SpoolReader {
    SpoolReader::new(&SpoolConfig::at(path).store)
}

fn letters(directory: &TempDir) -> DeadLetters {
    reader(directory.path().join("spool.db")).dead_letters().unwrap()
}

fn everything(json: bool) -> List {
    List { arguments: FilterArguments::default(), json }
}

fn list(letters: &DeadLetters, json: bool) -> String {
    let mut out = Vec::new();
    everything(json).print(letters, &reader("spool.db".into()), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn show(letters: &DeadLetters, id: i64, json: bool) -> String {
    let mut out = Vec::new();
    show::print(&letters.show(id).unwrap().unwrap(), json, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// Compares with the snapshot, in which the time is fixed.
#[track_caller]
fn check(text: &str, letters: &DeadLetters, expected: &Expect) {
    let mut text = text.to_owned();
    for id in [1, 2] {
        let at = letters.show(id).unwrap().unwrap().summary.at.to_rfc3339();
        assert_eq!(at.len(), "2025-05-01T12:00:00.000Z".len());
        text = text.replace(&at, "2025-05-01T12:00:00.000Z");
    }
    assert!(!text.contains(['\u{1b}', '\u{9b}']), "{text:?}");
    expected.assert_eq(&text);
}

#[tokio::test]
async fn list_prints_each_dead_letter() {
    let directory = kept().await;
    let letters = letters(&directory);
    check(
        &list(&letters, false),
        &letters,
        &expect![[r#"
        ID  AT                        REASON    SINK     SOURCE   TENANT  STATUS  CORRELATION ID  ATTEMPTS  DETAIL
        2   2025-05-01T12:00:00.000Z  refused   on_call  regards  esa     ERROR   c\u{1b}-1       3         413 Payload Too Large\u{9b}
        1   2025-05-01T12:00:00.000Z  not_utf8  -        regards  esa     -       -               0         the body is not UTF-8: an invalid byte at offset 0
    "#]],
    );
    check(
        &list(&letters, true),
        &letters,
        &expect![[r#"
            {"id":2,"reason":"refused","detail":"413 Payload Too Large\u009b","sink":"on_call","source":"regards","tenant":"esa","status":"ERROR","correlationId":"c\u001b-1","attempts":3,"at":"2025-05-01T12:00:00.000Z"}
            {"id":1,"reason":"not_utf8","detail":"the body is not UTF-8: an invalid byte at offset 0","sink":null,"source":"regards","tenant":"esa","status":null,"correlationId":null,"attempts":0,"at":"2025-05-01T12:00:00.000Z"}
        "#]],
    );
}

#[tokio::test]
async fn show_prints_a_dead_letter_as_text() {
    let directory = kept().await;
    let letters = letters(&directory);
    check(
        &show(&letters, 1, false),
        &letters,
        &expect![[r#"
        dead letter     1
        at              2025-05-01T12:00:00.000Z
        reason          not_utf8
        detail          the body is not UTF-8: an invalid byte at offset 0
        sink            -
        source          regards
        tenant          esa
        status          -
        correlation id  -
        attempts        0

        properties
        {
          "app_id": "rs-lta-manager",
          "timestamp": 1681461977,
          "headers": {
            "regards.tenant": "esa"
          }
        }

        body (8 bytes, not UTF-8: invalid ones are shown as �)
        �\u{1b}[2J
        	x

        event
        none: the message could not be decoded
    "#]],
    );
    check(
        &show(&letters, 2, false),
        &letters,
        &expect![[r#"
        dead letter     2
        at              2025-05-01T12:00:00.000Z
        reason          refused
        detail          413 Payload Too Large\u{9b}
        sink            on_call
        source          regards
        tenant          esa
        status          ERROR
        correlation id  c\u{1b}-1
        attempts        3

        properties
        {
          "app_id": "rs-lta-manager",
          "timestamp": 1681461977,
          "headers": {
            "regards.tenant": "esa"
          }
        }

        body (75 bytes)
        {"correlationId": "c\u001b-1", "responseStatus": "ERROR", "more": [1, 2]}


        event
        {"id":"f3e884c3-9568-5097-9625-1c00032f2f1f","type":"fr.cnes.regards.lta.submission.response","source":"regards","tenant":"esa","status":"ERROR","outcome":"failed","correlationId":"c\u001b-1","productId":null,"session":null,"expires":null,"message":null,"time":"2023-04-14T08:46:17Z","extra":{"more":[1,2]},"warnings":[]}
    "#]],
    );
}

#[tokio::test]
async fn show_prints_a_dead_letter_as_json() {
    let directory = kept().await;
    let letters = letters(&directory);
    check(
        &show(&letters, 1, true),
        &letters,
        &expect![[r#"
        {"id":1,"reason":"not_utf8","detail":"the body is not UTF-8: an invalid byte at offset 0","sink":null,"source":"regards","tenant":"esa","status":null,"correlationId":null,"attempts":0,"at":"2025-05-01T12:00:00.000Z","properties":{"app_id":"rs-lta-manager","timestamp":1681461977,"headers":{"regards.tenant":"esa"}},"body_base64":"/xtbMkoKCXg=","event":null}
    "#]],
    );
    check(
        &show(&letters, 2, true),
        &letters,
        &expect![[r#"
            {"id":2,"reason":"refused","detail":"413 Payload Too Large\u009b","sink":"on_call","source":"regards","tenant":"esa","status":"ERROR","correlationId":"c\u001b-1","attempts":3,"at":"2025-05-01T12:00:00.000Z","properties":{"app_id":"rs-lta-manager","timestamp":1681461977,"headers":{"regards.tenant":"esa"}},"body":"{\"correlationId\": \"c\\u001b-1\", \"responseStatus\": \"ERROR\", \"more\": [1, 2]}\r\n","event":{"id":"f3e884c3-9568-5097-9625-1c00032f2f1f","type":"fr.cnes.regards.lta.submission.response","source":"regards","tenant":"esa","status":"ERROR","outcome":"failed","correlationId":"c\u001b-1","productId":null,"session":null,"expires":null,"message":null,"time":"2023-04-14T08:46:17Z","extra":{"more":[1,2]},"warnings":[]}}
        "#]],
    );
}

struct ClosedPipe;

impl Write for ClosedPipe {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_closed_pipe_is_no_failure() {
    let directory = kept().await;
    let letters = letters(&directory);
    for json in [false, true] {
        let listed = everything(json).print(&letters, &reader("spool.db".into()), &mut ClosedPipe);
        assert_eq!(crate::cli::ignore_broken_pipe(listed).unwrap(), ExitCode::SUCCESS);
        let shown = show::print(&letters.show(1).unwrap().unwrap(), json, &mut ClosedPipe).map(|()| ExitCode::FAILURE);
        assert_eq!(crate::cli::ignore_broken_pipe(shown).unwrap(), ExitCode::SUCCESS);
    }
    let other = crate::cli::ignore_broken_pipe(Err(anyhow!("another")));
    assert!(other.is_err());
}

#[test]
fn a_list_of_many_pages_is_one_table() {
    let letter = |id: i64| DeadLetterSummary {
        id,
        reason: "not_json".to_owned(),
        detail: "x".repeat(1_000),
        sink: None,
        source: "s".to_owned(),
        tenant: None,
        status: None,
        correlation_id: Some("c".repeat(usize::try_from(id % 7).unwrap())),
        attempts: 0,
        at: WallTime(0),
        event_id: None,
    };
    let (mut table, mut out) = (Table::new(HEADS), Vec::new());
    for id in (1..=1_200).rev() {
        table.row(cells(&letter(id)), &mut out).unwrap();
    }
    table.finish(&mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert_eq!(text.lines().count(), 1_201);
    assert_eq!(text.matches("CORRELATION ID").count(), 1);
    assert!(text.lines().all(|line| line.chars().count() < 220), "long details are cut");
}

#[test]
fn since_takes_a_time_or_an_age() {
    assert_eq!(since("1970-01-02"), Ok(86_400_000));
    assert_eq!(since("1970-01-01T00:00:01.5+00:00"), Ok(1_500));
    let since_day = since("24h").unwrap();
    let ago = jiff::Timestamp::now().as_millisecond() - since_day;
    assert!((86_400_000..86_500_000).contains(&ago), "{ago}");
    for wrong in ["", "h", "24", "yesterday", "-1h", "99999999999999999999h", "9223372036854775807w"] {
        assert!(since(wrong).is_err(), "{wrong}");
    }
}
