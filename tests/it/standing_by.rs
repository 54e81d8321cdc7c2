//! Two relays on one queue: the second stands by, live and not ready, and takes over when the first is gone.

use std::time::Duration;

use crate::support::{Answer, Home, Receiver, Regards, Response};

const ROUTES: &str = r#"
version: 1
sources: { regards: { amqp: { url: "${REGARDS}", queue: "${QUEUE}" }, expects: lta } }
sinks: { hook: { webhook: { url: "${HOOK}" } } }
routes: [{ name: all, to: hook }]
unrouted: dead_letter
"#;

#[tokio::test]
async fn a_second_relay_stands_by_and_takes_over() {
    let regards = Regards::new().await;
    let (one, other) = (Receiver::start().await, Receiver::start().await);
    one.answers(|_| Answer::After(Duration::from_millis(1), 204));
    let first_home = Home::of(&regards, ROUTES).with("HOOK", &one.url());
    let second_home = Home::of(&regards, ROUTES).with("HOOK", &other.url());

    let first = first_home.start_ready().await;
    let second = second_home.start();
    second.wait_until_unready(&["regards", &regards.queue, "exclusive"]).await;
    assert!(second_home.log().contains("standing by"), "it says that it waits:\n{}", second_home.log());

    regards.publish(&Response::new("t", "to the first", "SUCCESS")).await;
    one.wait_for_accepted(1).await;
    first.stop().await;

    second.wait_until_ready().await;
    regards.publish(&Response::new("t", "to the second", "SUCCESS")).await;
    other.wait_for_accepted(1).await;
    second.stop().await;
    assert_eq!((one.posted().len(), other.posted().len()), (1, 1));
    regards.assert_left_as_found().await;
}
