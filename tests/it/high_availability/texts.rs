//! Texts that PostgreSQL can't store as they are come back as from a file.

use lapin::types::AMQPValue;
use serde_json::Value;

use super::Pair;
use crate::support::{Answer, Home, Receiver, Regards, Response, until};

const IN_A_FILE: &str = configuration! {
    sinks: {
        healthy: r#"{ webhook: { url: "${HEALTHY}" } }"#,
        broken: r#"{ webhook: { url: "${BROKEN}" }, retry: { initial_backoff: 100ms, max_backoff: 1s } }"#,
    },
};

const NAME: &str = "nul \0, backslash \\, both \\0 \\\0";

/// Lets a delivery be spooled, retried and refused. Returns its dead letter without what differs between runs.
async fn refused(regards: &Regards, healthy: &Receiver, broken: &mut Receiver, home: &Home) -> Value {
    let relay = home.start_ready().await;
    let tenant = AMQPValue::LongString("te\\nant".into());
    let mut response = Response::new("t", NAME, "GRANTED").header("regards.tenant", tenant);
    response.correlation_id = None;
    regards.publish(&response).await;
    let direct = healthy.wait_for_accepted(1).await.remove(0);
    home.wait_until_waiting("broken", 1).await;
    broken.answers(|_| Answer::Body(400, "refused: \0 and \\".to_owned()));
    broken.come_back().await;
    let spooled = broken.wait_for_posted(1).await.remove(0);
    assert_eq!(spooled.body, direct.body, "the event from the spool");
    assert_eq!(spooled.json()["correlationId"], NAME);
    let mut letter = until("a dead letter", async || match home.dead_letters().pop() {
        Some(letter) => Ok(letter),
        None => Err("none".to_owned()),
    })
    .await;
    assert_eq!(letter["correlationId"], NAME, "{letter}");
    let fields = letter.as_object_mut().expect("an object");
    for differs in ["id", "at", "attempts", "eventId"] {
        fields.remove(differs);
    }
    relay.stop().await;
    letter
}

#[tokio::test]
async fn texts_with_nul_and_backslash_come_back() {
    let mut pair = Pair::with_long_lease().await;
    let [home, _] = &pair.homes;
    let in_postgres = refused(&pair.regards, &pair.healthy, &mut pair.broken, home).await;

    let regards = Regards::new().await;
    let (healthy, mut broken) = (Receiver::start().await, Receiver::start().await);
    broken.go_down().await;
    let home = Home::of(&regards, IN_A_FILE).with("HEALTHY", &healthy.url()).with("BROKEN", &broken.url());
    let in_a_file = refused(&regards, &healthy, &mut broken, &home).await;
    assert_eq!(in_postgres, in_a_file);
}
