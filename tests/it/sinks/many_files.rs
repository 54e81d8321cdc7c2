//! Many files and many file sinks use a bounded number of threads and file descriptors.

use std::fmt::Write as _;

use serde_json::json;

use crate::support::{Home, until};

/// The limit of file descriptors for the relay.
const DESCRIPTORS: &str = "--nofile=160:160";
const SINKS: usize = 5;
const TENANTS: usize = 100;

/// One sample for each tenant.
fn samples(tenants: usize) -> String {
    let mut samples = String::new();
    for tenant in 0..tenants {
        let body = json!({ "correlationId": format!("c-{tenant}"), "responseStatus": "GRANTED" }).to_string();
        let headers = json!({ "regards.tenant": format!("t-{tenant}") });
        let sample = json!({ "properties": { "headers": headers }, "body": body });
        writeln!(samples, "{sample}").unwrap();
    }
    samples
}

/// One file sink per number, and one unavailable sink: its backlog keeps the relay running after the recording ends.
fn routes(sinks: usize) -> String {
    let mut routes = "version: 1\nsources:\n  samples:\n    recording: { path: samples.ndjson }\n".to_owned();
    routes.push_str("    expects: lta\nsinks:\n  down: { webhook: { url: 'http://127.0.0.1:1/' } }\n");
    for sink in 0..sinks {
        writeln!(routes, "  f{sink}: {{ file: {{ path: 'f{sink}/{{{{ tenant }}}}' }} }}").unwrap();
    }
    let names: Vec<_> = (0..sinks).map(|sink| format!("f{sink}")).collect();
    write!(routes, "routes: [{{ name: all, to: [down, {}] }}]\nunrouted: drop\n", names.join(", ")).unwrap();
    routes
}

#[tokio::test]
async fn file_sinks_leave_file_descriptors_for_the_rest() {
    let home = Home::new(&routes(SINKS));
    home.write("samples.ndjson", &samples(TENANTS));
    let mut relay = home.start_under(&["prlimit", DESCRIPTORS]);
    until("a line in each file", async || {
        assert!(relay.runs(), "the relay ended");
        let written =
            |sink, tenant| home.data(&format!("f{sink}/t-{tenant}")).metadata().is_ok_and(|found| found.len() > 0);
        let all = (0..SINKS).flat_map(|sink| (0..TENANTS).map(move |tenant| (sink, tenant)));
        match all.filter(|(sink, tenant)| !written(*sink, *tenant)).count() {
            0 => Ok(()),
            missing => Err(format!("{missing} files are missing")),
        }
    })
    .await;
    assert_eq!(relay.page("/livez").await.map(|(status, _)| status), Ok(200));
    assert_eq!(home.waiting("down"), TENANTS as u64, "by the control socket");
    relay.stop().await;
}

#[tokio::test]
async fn a_thousand_file_sinks_share_their_threads() {
    let home = Home::new(&routes(1000));
    home.write("samples.ndjson", &samples(1));
    let relay = home.start();
    until("a line of each sink", async || {
        match (0..1000).filter(|sink| !home.data(&format!("f{sink}/t-0")).exists()).count() {
            0 => Ok(()),
            missing => Err(format!("{missing} files are missing")),
        }
    })
    .await;
    let threads = std::fs::read_dir(format!("/proc/{}/task", relay.pid())).unwrap().count();
    assert!(threads <= 40, "{threads} threads");
    relay.stop().await;
}
