//! Any expression is refused or evaluated within its bounds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use regards_relay::event::{
    DecodeOptions, Event, EventView, ExpectedFamily, Expression, FAMILIES, SourceName, Validation, sample,
};

const SAMPLE: &str = r#"{"properties": {"priority": 1, "headers": {"regards.tenant": "esa", "list": [1, null, {"a": "b"}]}},
    "body": {"correlationId": "c", "responseStatus": "ERROR", "message": "no quota left", "size": 4, "list": ["x", {}]}}"#;

fuzz_target!(|text: &str| {
    let message = sample::parse(SAMPLE, &SourceName::new("fuzz")).expect("a sample");
    let family = &FAMILIES[0];
    let options = DecodeOptions {
        expects: ExpectedFamily::One(family),
        validation: Validation::Lenient,
        tenant: None,
        max_body: 1 << 20,
    };
    let event = Event::decode(&message, &options).expect("an event");
    let view = EventView::of(&event, &message);
    if let Ok(checked) = Expression::condition(text) {
        let result = checked.expression.is_true(view);
        assert_eq!(result, checked.expression.is_true(view));
    }
    if let Ok(checked) = Expression::computed(text) {
        let _ = checked.expression.value(view);
    }
});
