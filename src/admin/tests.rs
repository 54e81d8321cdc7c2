//! The admin listener and the control socket, as their clients see them.

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::listener::{MAX_CONNECTIONS, REQUEST_TIMEOUT};
use super::*;
use crate::config::{
    AdminConfig, Config, DeadLettersConfig, DeliveryConfig, OrderBy, RecordingConfig, Retry, SinkConfig, SinkKind,
    SourceConfig, SourceKind, SpoolConfig, WhenFull,
};
use crate::delivery::AttemptResult;
use crate::event::{
    DecodeOptions, ExpectedFamily, FAMILIES, Format, Message, Properties, Reason, SourceName, Validation,
};
use crate::relay::{Handle, JobRequest, Relay};
use crate::rules::{Condition, Field, Glob, Route, RouteName, Rules, SinkIndex, SinkName, Unrouted};
use crate::source::{EntryId, Receipt};
use crate::spool::{DeadLetter, DeadLetterFilter, Spool};

const KIND: &str = "fr.cnes.regards.lta.submission.response";

fn config(data_dir: PathBuf) -> Config {
    let tenants = ["esa", "cnes-*"].map(Glob::new).to_vec();
    let when = Condition { fields: vec![(Field::Tenant, tenants)], ..Condition::default() };
    let name = RouteName::new("everything");
    let route = Route { name, when, to: vec![SinkIndex(0)], transform: None, is_final: false };
    Config {
        hash: 0,
        name: "urn:test".to_owned(),
        sources: vec![SourceConfig {
            name: SourceName::new("regards"),
            kind: SourceKind::Recording(RecordingConfig { path: PathBuf::new(), repeat: 1 }),
            decode_options: DecodeOptions {
                expects: ExpectedFamily::One(FAMILIES.iter().find(|family| family.name == "lta").unwrap()),
                validation: Validation::Lenient,
                tenant: None,
                max_body: 1024,
            },
            files: crate::config::NamedFiles::default(),
        }],
        sinks: vec![SinkConfig {
            name: SinkName::new("screen"),
            kind: SinkKind::Stdout,
            format: Format::Normalized,
            masks: crate::config::Masks::default(),
            files: crate::config::NamedFiles::default(),
            keep_headers: Vec::new(),
            order_by: OrderBy::None,
            group: None,
            retry: Retry {
                initial_backoff: Duration::ZERO,
                max_backoff: Duration::ZERO,
                give_up_after: None,
                max_attempts: None,
                refuse_after: 3,
            },
            when_full: WhenFull::Block,
        }],
        alerts: Arc::default(),
        rules: Arc::new(Rules::new(vec![route], Unrouted::DeadLetter)),
        spool: SpoolConfig { max_size: 9_000, max_share: 50, ..SpoolConfig::at(data_dir.join("spool.db")) },
        journal: None,
        dead_letters: DeadLettersConfig { keep: None, max_size: 530, to: None },
        delivery: DeliveryConfig {
            spill_after: Duration::ZERO,
            shutdown_grace: Duration::ZERO,
            max_in_flight_bytes: 0,
        },
        admin: AdminConfig { listen: None },
        data_dir,
        files: crate::config::NamedFiles::default(),
    }
}

struct Setup {
    relay: Handle,
    stats: Arc<Stats>,
    config: Config,
    admin: Admin,
    _directory: tempfile::TempDir,
}

impl Setup {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = config(directory.path().to_owned());
        let relay = Relay::new(config.clone()).handle();
        let stats = Arc::clone(relay.stats());
        let admin = serve((Ipv4Addr::LOCALHOST, 0).into(), Arc::clone(&stats)).await.unwrap();
        Self { relay, stats, config, admin, _directory: directory }
    }

    /// The status code and the whole response.
    async fn ask(&self, method: &str, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.admin.address()).await.unwrap();
        stream.write_all(format!("{method} {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
    }

    fn open_spool(&self) -> Arc<Spool> {
        let spool = Arc::new(Spool::open(&self.config.spool, &self.config.dead_letters).unwrap());
        self.stats.add_spool(Arc::clone(&spool));
        spool
    }
}

fn letter() -> DeadLetter {
    DeadLetter {
        reason: Reason::Refused,
        detail: String::new(),
        sink: Some(SinkName::new("screen")),
        tenant: None,
        status: None,
        correlation_id: None,
        event_id: None,
        kind: None,
        route: None,
        attempts: 1,
        message: Arc::new(Message {
            source: SourceName::new("regards"),
            body: bytes::Bytes::new(),
            properties: Properties::default(),
            redelivered: false,
        }),
    }
}

fn json_of(answer: &str) -> serde_json::Value {
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[tokio::test]
async fn the_relay_is_alive_before_it_is_ready() {
    let setup = Setup::new().await;
    assert_eq!(setup.ask("GET", "/livez").await.0, 200);
    let (status, answer) = setup.ask("GET", "/readyz").await;
    assert_eq!(status, 503);
    assert_eq!(
        json_of(&answer),
        serde_json::json!({
            "ready": false,
            "reasons": ["the relay is starting", "source regards is starting"],
            "warnings": [],
            "sources": { "regards": { "state": "down", "reason": "is starting" } },
            "sinks": { "screen": { "state": "delivering" } },
        })
    );
    assert!(answer.contains("content-type: application/json\r\n"), "{answer}");

    setup.open_spool();
    setup.stats.snapshot().sources[0].set_consuming();
    let (status, answer) = setup.ask("GET", "/readyz").await;
    assert_eq!(status, 200);
    assert_eq!(json_of(&answer)["ready"], true);
    assert_eq!(json_of(&answer)["sources"]["regards"], serde_json::json!({ "state": "consuming", "reason": null }));

    setup.stats.snapshot().sources[0].set_standby("stands by");
    let (status, answer) = setup.ask("GET", "/readyz").await;
    assert_eq!((status, &json_of(&answer)["sources"]["regards"]["state"]), (200, &"standby".into()));
    assert!(metrics::text(&setup.stats).contains("source_standby{source=\"regards\"} 1\n"));

    setup.stats.snapshot().sources[0].set_paused();
    let (status, answer) = setup.ask("GET", "/readyz").await;
    assert_eq!((status, &json_of(&answer)["sources"]["regards"]["state"]), (503, &"paused".into()));

    setup.stats.snapshot().sources[0].set_down("can't log in: check its password");
    let (status, answer) = setup.ask("GET", "/readyz").await;
    assert_eq!(status, 503);
    assert!(answer.contains(r#"["source regards can't log in: check its password"]"#), "{answer}");
}

#[tokio::test]
async fn a_full_spool_is_not_ready() {
    let setup = Setup::new().await;
    setup.stats.snapshot().sources[0].set_consuming();
    let spool = setup.open_spool();
    let (to, _settled) = tokio::sync::mpsc::unbounded_channel();
    // There is room for two.
    for number in 0..3 {
        spool.store_dead_letter(letter(), Receipt::new(EntryId(number), to.clone()));
    }
    let until = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        let (status, answer) = setup.ask("GET", "/readyz").await;
        if status == 503 {
            assert!(answer.contains("have reached `dead_letters.max_size`"), "{answer}");
            break;
        }
        assert!(std::time::Instant::now() < until);
    }
    // Only a source whose own messages find no room is blocked.
    let source = &setup.stats.snapshot().sources[0];
    let now = std::time::Instant::now();
    for (head, state) in [
        (None, "consuming"),
        (Some(now), "consuming"),
        (now.checked_sub(Duration::from_secs(30)), "blocked"),
        (None, "consuming"),
    ] {
        source.set_head_since(head);
        let (_, answer) = setup.ask("GET", "/readyz").await;
        assert_eq!(json_of(&answer)["sources"]["regards"]["state"], state, "{head:?}");
        let blocked = u8::from(state == "blocked");
        let blocked = format!("source_blocked{{source=\"regards\",reason=\"dead_letters_full\"}} {blocked}\n");
        let metrics = metrics::text(&setup.stats);
        assert!(metrics.contains(&blocked), "{metrics}");
        let bytes = format!("regards_relay_dead_letters_bytes {}\n", spool.dead_letter_bytes());
        assert!(spool.dead_letter_bytes() > 0 && metrics.contains(&bytes), "{metrics}");
    }
}

#[tokio::test]
async fn the_listener_is_read_only_and_lists_its_pages() {
    let setup = Setup::new().await;
    for path in ["/livez", "/readyz", "/metrics", "/elsewhere"] {
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "QUERY"] {
            let (status, answer) = setup.ask(method, path).await;
            assert_eq!(status, 405, "{method} {path}");
            assert!(answer.to_ascii_lowercase().contains("allow: get,head"), "{answer}");
        }
    }
    assert_eq!(setup.ask("HEAD", "/livez").await.0, 200);
    let (status, answer) = setup.ask("GET", "/elsewhere").await;
    assert_eq!(status, 404);
    assert!(answer.contains("/readyz"), "{answer}");
}

#[tokio::test]
async fn the_error_for_a_used_port_names_the_address_and_the_setting() {
    let setup = Setup::new().await;
    let refused = serve(setup.admin.address(), Arc::clone(&setup.stats)).await.unwrap_err().to_string();
    assert!(refused.contains(&setup.admin.address().to_string()) && refused.contains("`admin.listen`"), "{refused}");
}

#[tokio::test]
async fn a_request_is_answered_although_silent_clients_have_all_connections() {
    let setup = Setup::new().await;
    let mut silent = Vec::new();
    // More than the limit, all of them older than the request.
    for _ in 0..3 * MAX_CONNECTIONS {
        silent.push(TcpStream::connect(setup.admin.address()).await.unwrap());
    }
    let asked = tokio::time::timeout(REQUEST_TIMEOUT / 2, setup.ask("GET", "/livez")).await;
    assert_eq!(asked.expect("an answer before a silent connection times out").0, 200);
    // The oldest one was closed.
    let mut nothing = [0];
    assert!(matches!(silent[0].read(&mut nothing).await, Ok(0) | Err(_)));
}

/// The time series of an exposition, without their values.
fn names(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with('#')).map(|line| line.rsplit_once(' ').unwrap().0).collect()
}

#[tokio::test]
async fn every_time_series_of_the_configuration_begins_at_zero() {
    let setup = Setup::new().await;
    let (status, answer) = setup.ask("GET", "/metrics").await;
    assert_eq!(status, 200);
    assert!(answer.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{answer}");
    let (_, text) = answer.split_once("\r\n\r\n").unwrap();
    let before = names(text);
    for line in [
        r#"source_up{source="regards"} 0"#,
        r#"source_standby{source="regards"} 0"#,
        r#"source_blocked{source="regards",reason="spool_full"} 0"#,
        r#"source_blocked{source="regards",reason="paused"} 0"#,
        r#"source_last_message_timestamp_seconds{source="regards"} 0"#,
        r#"source_reconnects_total{source="regards"} 0"#,
        r#"messages_received_total{source="regards"} 0"#,
        r#"events_total{source="regards",type="fr.cnes.regards.lta.submission.response",tenant="esa",status="GRANTED"} 0"#,
        r#"events_total{source="regards",type="fr.cnes.regards.lta.submission.response",tenant="_other",status="ERROR"} 0"#,
        r#"route_events_total{route="everything"} 0"#,
        r#"route_errors_total{route="everything"} 0"#,
        "unrouted_events_total 0",
        r#"deliveries_total{sink="screen",result="delivered"} 0"#,
        r#"deliveries_total{sink="screen",result="dead_letter"} 0"#,
        r#"delivery_attempts_total{sink="screen",result="refused"} 0"#,
        r#"delivery_duration_seconds_bucket{sink="screen",le="0.001"} 0"#,
        r#"delivery_duration_seconds_bucket{sink="screen",le="+Inf"} 0"#,
        r#"delivery_duration_seconds_sum{sink="screen"} 0"#,
        r#"delivery_duration_seconds_count{sink="screen"} 0"#,
        r#"deliveries_in_flight{sink="screen"} 0"#,
        r#"spool_deliveries{sink="screen"} 0"#,
        r#"spool_bytes{sink="screen"} 0"#,
        r#"spool_limit_bytes{sink="screen"} 4500"#,
        r#"spool_oldest_age_seconds{sink="screen"} 0"#,
        "dead_letters_bytes 0",
        "dead_letters_max_bytes 530",
        "spool_max_bytes 9000",
        r#"dead_letters_total{reason="not_utf8",sink=""} 0"#,
        r#"dead_letters_total{reason="refused",sink="screen"} 0"#,
        r#"dead_letters_stored{reason="refused",sink="screen"} 0"#,
        r#"sink_breaker_open{sink="screen"} 0"#,
        r#"sink_paused{sink="screen"} 0"#,
        r#"config_reloads_total{result="success"} 0"#,
        r#"config_reloads_total{result="failure"} 0"#,
        "config_last_reload_successful 1",
        "log_lines_dropped_total 0",
        concat!(r#"build_info{version=""#, env!("CARGO_PKG_VERSION"), r#""} 1"#),
    ] {
        assert!(text.lines().any(|found| found == format!("regards_relay_{line}")), "{line} in {text}");
    }

    // An event changes values only: no series of the configuration appears with its first event.
    let source = Arc::clone(&setup.stats.snapshot().sources[0]);
    source.count_received();
    source.count_event(KIND, "esa", "ERROR");
    setup.stats.snapshot().count_route(0);
    let sink = Arc::clone(&setup.stats.snapshot().sinks[0]);
    sink.count_attempt_start();
    sink.count_attempt(AttemptResult::Retry);
    sink.count_delivered(Duration::from_millis(3));
    let spool = setup.open_spool();
    let (to, mut settled) = tokio::sync::mpsc::unbounded_channel();
    spool.store_dead_letter(letter(), Receipt::new(EntryId(0), to));
    settled.recv().await.unwrap();
    let text = metrics::text(&setup.stats);
    assert_eq!(names(&text), before);
    for line in [
        r#"events_total{source="regards",type="fr.cnes.regards.lta.submission.response",tenant="esa",status="ERROR"} 1"#,
        r#"route_events_total{route="everything"} 1"#,
        r#"deliveries_total{sink="screen",result="delivered"} 1"#,
        r#"delivery_attempts_total{sink="screen",result="retry"} 1"#,
        r#"delivery_duration_seconds_bucket{sink="screen",le="0.002"} 0"#,
        r#"delivery_duration_seconds_bucket{sink="screen",le="0.005"} 1"#,
        r#"delivery_duration_seconds_bucket{sink="screen",le="+Inf"} 1"#,
        r#"delivery_duration_seconds_sum{sink="screen"} 0.003"#,
        r#"deliveries_in_flight{sink="screen"} 1"#,
        r#"dead_letters_total{reason="refused",sink="screen"} 1"#,
        r#"dead_letters_stored{reason="refused",sink="screen"} 1"#,
    ] {
        assert!(text.lines().any(|found| found == format!("regards_relay_{line}")), "{line} in {text}");
    }
}

#[test]
fn labels_are_escaped() {
    let mut to = exposition::Exposition::new("p_");
    to.family("m", exposition::Kind::Gauge, "h", [(vec![("l", "a\"b\\c\nd")], 1)]);
    assert_eq!(to.finish(), "# HELP p_m h\n# TYPE p_m gauge\np_m{l=\"a\\\"b\\\\c\\nd\"} 1\n");
}

async fn request(socket: &Path, request: control::Request) -> Option<String> {
    let socket = socket.to_owned();
    let answer = tokio::task::spawn_blocking(move || control::request(&socket, &request)).await.unwrap().unwrap();
    answer.map(|answer| serde_json::to_string(&answer).unwrap())
}

#[tokio::test]
async fn a_relay_refuses_requests_for_another_spool() {
    let setup = Setup::new().await;
    let socket = control::socket(&setup.config.data_dir);
    let purge = |spool: &str| {
        let job = JobRequest::Purge { filter: DeadLetterFilter::default(), total: 1 };
        control::Request { spool: spool.to_owned(), command: control::Command::Job { job, detach: false } }
    };
    assert_eq!(request(&socket, purge("/other.db")).await, None, "no socket exists");

    let long = control::socket(&setup.config.data_dir.join("x".repeat(200)));
    assert_eq!(request(&long, purge("/other.db")).await, None, "the path is too long for a socket");

    // The socket of a relay that was killed.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert_eq!(request(&socket, purge("/other.db")).await, None, "no relay listens");

    let _control = control::serve(socket.clone(), setup.relay.clone());
    let spool = setup.open_spool();
    let (to, mut settled) = tokio::sync::mpsc::unbounded_channel();
    spool.store_dead_letter(letter(), Receipt::new(EntryId(0), to));
    settled.recv().await.unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    let refused = loop {
        if let Some(answer) = request(&socket, purge("/other.db")).await {
            break answer;
        }
        assert!(tokio::time::Instant::now() < deadline, "the socket is not there");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert!(refused.contains("the relay that runs here has another spool"), "{refused}");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(request(&socket, purge(spool.name())).await.as_deref(), Some(r#"{"purged":1}"#));

    let mut stranger = tokio::net::UnixStream::connect(&socket).await.unwrap();
    stranger.write_all(b"{\"explode\": 1}\n").await.unwrap();
    let mut answer = String::new();
    stranger.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("does not understand"), "{answer}");
}

/// Neither captures of a quiet source nor silent clients block other commands.
#[tokio::test]
async fn long_commands_block_no_others() {
    let setup = Setup::new().await;
    let socket = control::socket(&setup.config.data_dir);
    let spool = setup.open_spool();
    let _control = control::serve(socket.clone(), setup.relay.clone());
    setup.relay.set_config(&Arc::new(setup.config.clone()));
    let until = tokio::time::Instant::now() + Duration::from_mins(1);
    while tokio::net::UnixStream::connect(&socket).await.is_err() {
        assert!(tokio::time::Instant::now() < until, "the socket is not there");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let command = control::Command::Capture { source: "regards".to_owned(), count: 1 };
    let capture = control::Request { spool: spool.name().to_owned(), command };
    let line = format!("{}\n", serde_json::to_string(&capture).unwrap());
    let (mut captures, mut busy) = (Vec::new(), 0);
    for _ in 0..8 {
        let mut stream = tokio::io::BufReader::new(tokio::net::UnixStream::connect(&socket).await.unwrap());
        stream.write_all(line.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::io::AsyncBufReadExt::read_line(&mut stream, &mut answer).await.unwrap();
        busy += u32::from(answer.contains("busy with 4 captures"));
        captures.push(stream);
    }
    assert_eq!(busy, 4, "the others are refused at once");
    let mut silent = Vec::new();
    for _ in 0..64 {
        silent.push(tokio::net::UnixStream::connect(&socket).await.unwrap());
    }
    let job = JobRequest::Purge { filter: DeadLetterFilter::default(), total: 0 };
    let command = control::Command::Job { job, detach: false };
    let purge = control::Request { spool: spool.name().to_owned(), command };
    let purged = tokio::time::timeout(Duration::from_mins(1), request(&socket, purge)).await.unwrap();
    assert_eq!(purged.as_deref(), Some(r#"{"purged":0}"#));
}
