//! The diagnostics of invalid files, word for word; and the configurations of valid ones.

#![allow(clippy::needless_raw_string_hashes, reason = "expect-test writes them so")]
#![allow(clippy::needless_pass_by_value, reason = "an `expect!` is written where it is passed")]

mod alerts;
mod brokers;
mod conditions;
mod dead_letters;
mod defaults;
mod files;
mod formats;
mod groups;
mod kafka;
mod kerberos;
mod keys;
mod limits;
mod logins;
mod lookalikes;
mod oauth2;
mod postgres;
mod registries;
mod routes;
mod secrets;
mod shards;
mod sinks;
mod sources;
mod templates;
mod transforms;
mod types;
mod typing_errors;
mod valid;
mod webhooks;

use std::path::Path;

use expect_test::Expect;

use super::{Config, Diagnostics, Options, Strictness};

/// An environment in which only these variables are set.
fn options(strictness: Strictness, variables: &[(&str, &str)]) -> Options {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Options { strictness, variables: variables.collect(), data_dir: "/data".into(), host: "machine".to_owned() }
}

fn parse(text: &str, strictness: Strictness, variables: &[(&str, &str)]) -> Result<(Config, Diagnostics), Diagnostics> {
    Config::parse(text, Path::new("routes.yaml"), &options(strictness, variables))
}

/// Checks the diagnostics of a file that has errors.
#[track_caller]
fn check_errors(text: &str, expected: Expect) {
    match parse(text, Strictness::Run, &[]) {
        Ok((_, warnings)) => panic!("it has no errors:\n{warnings}"),
        Err(errors) => expected.assert_eq(&with_fixed_directory(&errors)),
    }
}

/// The diagnostics with the directory of the tests replaced by `HERE`.
fn with_fixed_directory(diagnostics: &Diagnostics) -> String {
    diagnostics.to_string().replace(&std::env::current_dir().unwrap().display().to_string(), "HERE")
}

/// Checks the warnings of a file that has no errors.
#[track_caller]
fn check_warnings(text: &str, expected: Expect) {
    match parse(text, Strictness::Run, &[]) {
        Ok((_, warnings)) => expected.assert_eq(&warnings.to_string()),
        Err(errors) => panic!("it has errors:\n{errors}"),
    }
}

/// The configuration of a file that has neither errors nor warnings.
#[track_caller]
fn valid(text: &str) -> Config {
    valid_with(text, &[])
}

#[track_caller]
fn valid_with(text: &str, variables: &[(&str, &str)]) -> Config {
    match parse(text, Strictness::Run, variables) {
        Ok((config, warnings)) if warnings.iter().next().is_none() => config,
        Ok((_, diagnostics)) | Err(diagnostics) => panic!("it has errors or warnings:\n{diagnostics}"),
    }
}

/// A file with that source that is valid otherwise.
fn source(source: &str) -> String {
    format!(
        "version: 1\nsources:\n  regards:\n{}\nsinks: {{ screen: {{ stdout: {{}} }} }}\nroutes: [{{ name: all, to: screen }}]\nunrouted: drop\n",
        indented(source)
    )
}

/// A file with that sink that is valid otherwise.
fn sink(sink: &str) -> String {
    format!(
        "version: 1\nsources: {{ regards: {{ amqp: {{ url: amqp://localhost, queue: q }} }} }}\nsinks:\n  out:\n{}\nroutes: [{{ name: all, to: out }}]\nunrouted: drop\n",
        indented(sink)
    )
}

/// A file with those routes and the sinks `a` and `b` that is valid otherwise.
fn routes(routes: &str) -> String {
    format!(
        "version: 1\nsources: {{ regards: {{ amqp: {{ url: amqp://localhost, queue: q }} }} }}\nsinks: {{ a: {{ stdout: {{}} }}, b: {{ stdout: {{}} }} }}\nroutes:\n{}\nunrouted: drop\n",
        indented(routes)
    )
}

fn indented(text: &str) -> String {
    text.trim_matches('\n').lines().flat_map(|line| ["    ", line, "\n"]).collect()
}
