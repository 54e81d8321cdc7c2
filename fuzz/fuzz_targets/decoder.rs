//! Any message becomes an event or an error, and an event decoded again is the same event.
#![no_main]

use libfuzzer_sys::fuzz_target;
use regards_relay::event::{
    Carrier, DecodeOptions, Event, EventView, ExpectedFamily, FAMILIES, Format, Message, Properties, SourceName,
    Validation, sample,
};

fuzz_target!(|data: &[u8]| {
    let source = SourceName::new("fuzz");
    let mut messages = vec![Message {
        source: source.clone(),
        body: data.to_vec().into(),
        properties: Properties::default(),
        redelivered: false,
    }];
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(message) = sample::parse(text, &source)
    {
        let again = sample::parse(&sample::print(&message), &source).expect("a printed sample");
        assert_eq!((&again.body, &again.properties), (&message.body, &message.properties));
        messages.push(message);
    }
    for message in &messages {
        for expects in FAMILIES.iter().map(ExpectedFamily::One).chain([ExpectedFamily::Auto]) {
            for validation in [Validation::Lenient, Validation::Strict] {
                let options = DecodeOptions { expects, validation, tenant: Some("t".into()), max_body: 1 << 20 };
                decode(message, &options);
            }
        }
    }
});

fn decode(message: &Message, options: &DecodeOptions) {
    let Ok(event) = Event::decode(message, options) else { return };
    let again = Event::decode_as(message, event.kind, &event.tenant).expect("an event");
    assert_eq!(again.id, event.id);
    for format in [Format::Normalized, Format::Original, Format::CloudEvents { name: "urn:fuzz".to_owned() }] {
        for carrier in [Carrier::Kafka, Carrier::Http, Carrier::Amqp, Carrier::Line] {
            let encoded = format.encode(EventView::of(&event, message), carrier);
            assert!(carrier != Carrier::Line || !encoded.is_ok_and(|encoded| encoded.body.contains(&b'\n')));
        }
    }
}
