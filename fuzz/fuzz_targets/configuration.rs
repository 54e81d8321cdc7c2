//! Whatever stands in a file of rules is a configuration or a list of mistakes; and by a configuration a message becomes something.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use regards_relay::config::{Config, Options, Strictness};
use regards_relay::event::{SourceName, sample};
use regards_relay::dry_run::DryRun;

const SAMPLE: &str = r#"{"properties": {"headers": {"regards.tenant": "esa"}},
    "body": {"correlationId": "c", "responseStatus": "ERROR", "message": "no quota left", "size": 4}}"#;

fuzz_target!(|text: &str| {
    // What is inserted would be read.
    if text.contains("file:") {
        return;
    }
    let options = Options::of_process(Strictness::Offline, None);
    match Config::parse(text, Path::new("routes.yaml"), &options) {
        Ok((config, warnings)) => {
            warnings.render(false);
            for source in &config.sources {
                let message = sample::parse(SAMPLE, &SourceName::new(source.name.as_str())).expect("a sample");
                let dry_run = DryRun::of(&config, &message).expect("a source of the file");
                dry_run.explain(&config, &message);
            }
        }
        Err(errors) => {
            assert!(errors.errors() > 0);
            errors.render(false);
        }
    }
});
