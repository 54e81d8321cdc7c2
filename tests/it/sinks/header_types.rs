//! Headers from broker to broker keep their type, width, scale and sign, directly and through the spool.

use lapin::ExchangeKind;
use lapin::types::{AMQPValue, DecimalValue, FieldArray, FieldTable};

use crate::support::{Home, Rabbit, Regards, Response};

const ROUTES: &str = configuration! {
    sinks: {
        partner: r#"{ amqp: { url: "${PARTNER}", exchange: products, routing_key: "{{ status }}" }, format: original }"#,
        lines: r#"{ file: { path: lines.ndjson }, body: "[{{ headers.decimal }}, {{ headers.short_uint }}]" }"#,
    },
};

fn typed() -> Vec<(String, AMQPValue)> {
    let decimal = |value: i32, scale| AMQPValue::DecimalValue(DecimalValue { scale, value: value.cast_unsigned() });
    let mut table = FieldTable::default();
    table.insert("inner".into(), AMQPValue::ShortInt(-2));
    let nested = FieldArray::from(vec![AMQPValue::ShortShortUInt(255), decimal(-15, 1), AMQPValue::FieldTable(table)]);
    let values = [
        ("short_short_int", AMQPValue::ShortShortInt(-128)),
        ("short_short_uint", AMQPValue::ShortShortUInt(255)),
        ("short_int", AMQPValue::ShortInt(-300)),
        ("short_uint", AMQPValue::ShortUInt(65_535)),
        ("long_int", AMQPValue::LongInt(-70_000)),
        ("long_uint", AMQPValue::LongUInt(u32::MAX)),
        ("long_long_int", AMQPValue::LongLongInt(i64::MIN)),
        ("float", AMQPValue::Float(0.1)),
        ("double", AMQPValue::Double(0.1)),
        ("decimal", decimal(150, 2)),
        ("negative", decimal(-15, 1)),
        ("time", AMQPValue::Timestamp(1_681_461_977)),
        ("bytes", AMQPValue::ByteArray(vec![0, 255].into())),
        ("no_utf8", AMQPValue::LongString(vec![0xc3, 0x28].into())),
        ("nothing", AMQPValue::Void),
        ("nested", AMQPValue::FieldArray(nested)),
    ];
    values.map(|(name, value)| (name.to_owned(), value)).into()
}

#[tokio::test]
async fn headers_keep_their_types() {
    let regards = Regards::new().await;
    let partner = Rabbit::shared().new_vhost().await;
    partner.exchange("products", ExchangeKind::Fanout).await;
    partner.queue("all", FieldTable::default()).await;
    partner.bind("all", "products", "").await;
    let collected = partner.collect("all").await;
    let home = Home::of(&regards, ROUTES).with("PARTNER", &partner.admin_url());
    let relay = home.start_ready().await;
    let response = |id: &str| {
        let mut response = Response::new("t", id, "SUCCESS");
        response.headers.extend(typed());
        response
    };
    regards.publish(&response("direct")).await;
    collected.wait_for(1).await;
    home.does(&["pause", "--sink", "partner"]);
    regards.publish(&response("spooled")).await;
    home.wait_until_waiting("partner", 1).await;
    home.does(&["resume", "--sink", "partner"]);
    for message in collected.wait_for(2).await {
        let headers = message.properties.headers().clone().expect("headers");
        for (name, sent) in typed() {
            assert_eq!(headers.inner().get(name.as_str()), Some(&sent), "{name}");
        }
    }
    let lines = home.wait_for_lines("lines.ndjson", 2).await;
    assert_eq!(lines, [serde_json::json!([1.5, 65_535]), serde_json::json!([1.5, 65_535])]);
    relay.stop().await;
    regards.assert_left_as_found().await;
}
