//! How several tests begin.

use super::{Answer, Home, Receiver, Regards, Relay, Response};

/// Starts REGARDS and a webhook receiver, and creates a home whose variable `${HOOK}` is the receiver's URL.
pub async fn with_webhook(routes: &str) -> (Regards, Receiver, Home) {
    let regards = Regards::new().await;
    let receiver = Receiver::start().await;
    let home = Home::of(&regards, routes).with("HOOK", &receiver.url());
    (regards, receiver, home)
}

/// Starts the relay while the receiver answers 503, and returns once the backlog of the webhook `sink` has all of these
/// messages.
pub async fn start_with_backlog<'a>(
    home: &'a Home,
    regards: &Regards,
    receiver: &Receiver,
    sink: &str,
    published: &[Response],
) -> Relay<'a> {
    receiver.answers(|_| Answer::Status(503));
    let relay = home.start_ready().await;
    regards.publish_all(published).await;
    home.wait_until_waiting(sink, published.len() as u64).await;
    relay
}
