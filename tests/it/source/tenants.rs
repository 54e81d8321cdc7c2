//! One virtual host for each tenant.

use lapin::types::FieldTable;
use serde_json::Value;

use crate::support::{Home, Rabbit, Response, regards, unique};

#[tokio::test]
async fn each_tenant_has_a_consumer_and_needs_no_header() {
    let (rabbit, stem) = (Rabbit::shared(), unique("regards"));
    let mut vhosts = Vec::new();
    for tenant in ["cnes-a", "esa"] {
        let vhost = rabbit.vhost(&format!("{stem}.{tenant}")).await;
        vhost.exchange(regards::EXCHANGE, lapin::ExchangeKind::Fanout).await;
        vhost.queue("responses", FieldTable::default()).await;
        vhost.bind("responses", regards::EXCHANGE, "").await;
        vhosts.push(vhost);
    }
    let routes = format!(
        r#"
version: 1
sources:
  regards:
    amqp: {{ url: "${{REGARDS}}", vhost: "{stem}.{{tenant}}", queue: responses }}
    tenants: [CNES-A, esa]
sinks: {{ archive: {{ file: {{ path: "{{{{ tenant }}}}.ndjson" }} }} }}
routes: [{{ name: all, when: {{ source: "regards.*" }}, to: archive }}]
unrouted: dead_letter
"#
    );
    // The URL has no virtual host, because `vhost:` names it.
    let url = vhosts[0].admin_url();
    let (broker, _) = url.rsplit_once('/').expect("a URL with a virtual host");
    let home = Home::new(&routes).with("REGARDS", broker);
    let relay = home.start_ready().await;
    for (vhost, id) in vhosts.iter().zip(["one", "two"]) {
        let message = Response::new("nobody", id, "GRANTED").without_header("regards.tenant");
        regards::send(&vhost.channel().await, &message).await.expect("sent").await.expect("confirmed");
    }
    let went = |lines: Vec<Value>| {
        lines.iter().map(|line| format!("{} {}", line["source"], line["correlationId"])).collect::<Vec<_>>()
    };
    assert_eq!(went(home.wait_for_lines("CNES-A.ndjson", 1).await), [r#""regards.CNES-A" "one""#]);
    assert_eq!(went(home.wait_for_lines("esa.ndjson", 1).await), [r#""regards.esa" "two""#]);

    home.does(&["pause", "--source", "regards.esa"]);
    for (vhost, id) in vhosts.iter().zip(["three", "four"]) {
        let message = Response::new("esa", id, "GRANTED").without_header("regards.tenant");
        regards::send(&vhost.channel().await, &message).await.expect("sent").await.expect("confirmed");
    }
    assert_eq!(went(home.wait_for_lines("CNES-A.ndjson", 2).await).len(), 2, "the other goes on");
    assert_eq!(vhosts[1].left_in("responses").await, 1);
    home.does(&["resume", "--source", "regards.esa"]);
    assert_eq!(went(home.wait_for_lines("esa.ndjson", 2).await)[1], r#""regards.esa" "four""#);
    relay.stop().await;
}
