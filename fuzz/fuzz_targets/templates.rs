//! Any template is refused or rendered within its bounds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use regards_relay::event::{
    DecodeOptions, Event, EventView, ExpectedFamily, FAMILIES, Message, SourceName, Template, Validation, sample,
};

const SAMPLE: &str = r#"{"properties": {"priority": 1, "headers": {"regards.tenant": "esa", "list": [1, null, {"a": "b"}]}},
    "body": {"correlationId": "c", "responseStatus": "ERROR", "message": "no quota left", "size": 4, "list": ["x", {}]}}"#;

fuzz_target!(|text: &str| {
    let message: Message = sample::parse(SAMPLE, &SourceName::new("fuzz")).expect("a sample");
    let family = &FAMILIES[0];
    let options = DecodeOptions {
        expects: ExpectedFamily::One(family),
        validation: Validation::Lenient,
        tenant: None,
        max_body: 1 << 20,
    };
    let event = Event::decode(&message, &options).expect("an event");
    let view = EventView::of(&event, &message);
    let Ok(template) = Template::compile(text) else { return };
    template.nullable();
    let rendered = template.render(view);
    // Rendering is a pure function.
    assert_eq!(rendered, template.render(view));
    if let Some(fixed) = template.fixed() {
        assert_eq!(rendered.as_deref(), Ok(fixed));
    }
    let _ = template.render_key(view);
    let _ = template.render_address(view);
    if let Ok(url) = template.render_url(view) {
        assert!(!url.is_empty() || text.is_empty() || template.fixed().is_none() || template.fixed() == Some(""));
    }
});
