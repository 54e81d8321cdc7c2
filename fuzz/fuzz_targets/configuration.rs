//! Any file is a valid configuration or has a list of errors; with a valid one, the dry run of a message succeeds.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use regards_relay::config::{Config, Options, Strictness};
use regards_relay::dry_run::DryRun;
use regards_relay::event::{SourceName, sample};

const SAMPLE: &str = r#"{"properties": {"headers": {"regards.tenant": "esa"}},
    "body": {"correlationId": "c", "responseStatus": "ERROR", "message": "no quota left", "size": 4}}"#;

fuzz_target!(|text: &str| {
    // `${file:…}` would read files.
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
