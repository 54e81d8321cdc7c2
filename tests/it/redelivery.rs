//! Losing the source's connection cancels nothing that was taken: what comes again is recognized, and delivered once.

use crate::support::response::lives;
use crate::support::{Home, Receiver, Regards};

#[tokio::test]
async fn what_is_redelivered_while_it_is_under_way_is_delivered_once() {
    let regards = Regards::new().await;
    let receiver = Receiver::start().await;
    let home = Home::of(
        &regards,
        r#"
version: 1
sources: { regards: { amqp: { url: "${REGARDS}", queue: "${QUEUE}" }, expects: lta } }
sinks: { hook: { webhook: { url: "${HOOK}", timeout: 60s, concurrency: 10 } } }
routes: [{ name: all, to: hook }]
unrouted: dead_letter
delivery: { spill_after: 5m }
"#,
    )
    .with("HOOK", &receiver.url());
    let relay = home.start_ready().await;
    receiver.hold();
    let published = lives("t", "redelivered", 3);
    regards.publish_all(&published).await;
    regards.vhost.wait_for_unacknowledged(&regards.queue, 6).await;

    regards.vhost.close_connection_of(&regards.user).await;
    regards.vhost.wait_for_redelivered(&regards.queue, 6).await;
    receiver.release();

    receiver.wait_for_accepted(6).await;
    relay.stop().await;
    assert_eq!(receiver.posted().len(), 6, "each once, although each came twice");
    regards.assert_left_as_found().await;
}
