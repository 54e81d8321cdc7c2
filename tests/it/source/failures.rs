//! A failure of the source is logged in one clear line, with advice and without the password. The relay retries,
//! `/readyz` gives the reason, and the source recovers once the cause is removed.

use crate::support::regards::pattern_of;
use crate::support::{Home, Proxy, Rabbit, Regards, Relay, Response, lines_of, until};

const ROUTES: &str = configuration! {
    sinks: {
        archive: "{ file: { path: archive.ndjson } }",
    },
};

#[tokio::test]
async fn a_wrong_password() {
    let regards = Regards::new().await;
    let wrong = "wrong-s3cret-of-the-partner";
    let home =
        Home::of(&regards, ROUTES).with("REGARDS", &regards.vhost.url_for(&regards.user, wrong)).keeping_secret(wrong);
    let relay = home.start();
    relay.wait_until_unready(&["regards", &regards.user, "password"]).await;
    assert_warned_once(&home, &relay, &[&regards.user, "password"]).await;
    regards.vhost.rabbit().user(&regards.user, wrong).await;
    assert_recovers(&regards, &home, relay).await;
}

#[tokio::test]
async fn a_missing_queue() {
    let regards = Regards::new().await;
    regards.vhost.delete_queue(&regards.queue).await;
    let home = Home::of(&regards, ROUTES);
    let relay = home.start();
    relay.wait_until_unready(&["regards", &regards.queue]).await;
    assert_warned_once(&home, &relay, &[&regards.queue, regards.vhost.name()]).await;
    regards.create_queue().await;
    assert_recovers(&regards, &home, relay).await;
}

#[tokio::test]
async fn a_missing_right() {
    let regards = Regards::new().await;
    regards.vhost.permit(&regards.user, "", "", "^another queue$").await;
    let home = Home::of(&regards, ROUTES);
    let relay = home.start();
    relay.wait_until_unready(&["regards", &regards.queue, &regards.user]).await;
    assert_warned_once(&home, &relay, &[&regards.queue, &regards.user, "read"]).await;
    regards.vhost.permit(&regards.user, "", "", &pattern_of(&regards.queue)).await;
    assert_recovers(&regards, &home, relay).await;
}

#[tokio::test]
async fn a_forbidden_virtual_host() {
    let regards = Regards::new().await;
    regards.vhost.forbid(&regards.user).await;
    let home = Home::of(&regards, ROUTES);
    let relay = home.start();
    relay.wait_until_unready(&["regards", regards.vhost.name()]).await;
    assert_warned_once(&home, &relay, &[regards.vhost.name()]).await;
    regards.vhost.permit(&regards.user, "", "", &pattern_of(&regards.queue)).await;
    assert_recovers(&regards, &home, relay).await;
}

#[tokio::test]
async fn an_unreachable_broker() {
    let regards = Regards::new().await;
    let mut proxy = Proxy::to(Rabbit::shared().services().amqp_port()).await;
    let address = format!("127.0.0.1:{}", proxy.port());
    proxy.go_down().await;
    let home = Home::of(&regards, ROUTES)
        .with("REGARDS", &regards.vhost.url_at(&regards.user, &regards.password, proxy.port()));
    let relay = home.start();
    relay.wait_until_unready(&["regards", &address]).await;
    assert_warned_once(&home, &relay, &[&address]).await;
    proxy.come_back().await;
    assert_recovers(&regards, &home, relay).await;
}

#[tokio::test]
async fn a_connection_that_an_administrator_closes() {
    let regards = Regards::new().await;
    let home = Home::of(&regards, ROUTES);
    let relay = home.start_ready().await;
    regards.vhost.close_connection_of(&regards.user).await;
    relay.wait_for_metric("source_reconnects_total", &[("source", "regards")], 1.0).await;
    assert_recovers(&regards, &home, relay).await;
}

/// The relay logs one clear line, not one line for each attempt.
async fn assert_warned_once(home: &Home, relay: &Relay<'_>, words: &[&str]) {
    relay.wait_for_metric("source_reconnects_total", &[("source", "regards")], 3.0).await;
    let warnings = home.warnings_with(words);
    assert_eq!(warnings.len(), 1, "warnings with {words:?}: {warnings:#?}");
}

async fn assert_recovers(regards: &Regards, home: &Home, mut relay: Relay<'_>) {
    assert!(relay.runs());
    relay.wait_until_ready().await;
    regards.publish(&Response::new("t", "after the trouble", "SUCCESS")).await;
    until("the response in the file", async || match lines_of(home.data("archive.ndjson")).len() {
        1 => Ok(()),
        seen => Err(seen.to_string()),
    })
    .await;
    relay.stop().await;
    regards.assert_left_as_found().await;
}
