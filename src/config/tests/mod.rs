//! Wrong files and what is said about them, word for word; right files and what they become.

#![allow(clippy::needless_raw_string_hashes, reason = "expect-test writes them so")]
#![allow(clippy::needless_pass_by_value, reason = "an `expect!` is written where it is passed")]

mod brokers;
mod conditions;
mod dead_letters;
mod defaults;
mod files;
mod kafka;
mod keys;
mod limits;
mod logins;
mod lookalikes;
mod right;
mod routes;
mod secrets;
mod sinks;
mod slips;
mod sources;
mod templates;
mod transforms;
mod types;
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

/// What is said about a file that can't be used.
#[track_caller]
fn wrong(text: &str, expected: Expect) {
    match parse(text, Strictness::Run, &[]) {
        Ok((_, warnings)) => panic!("it can be used:\n{warnings}"),
        Err(errors) => expected.assert_eq(&anywhere(&errors)),
    }
}

/// What is said, wherever the tests run.
fn anywhere(said: &Diagnostics) -> String {
    said.to_string().replace(&std::env::current_dir().unwrap().display().to_string(), "HERE")
}

/// What is said about a file that can be used.
#[track_caller]
fn warned(text: &str, expected: Expect) {
    match parse(text, Strictness::Run, &[]) {
        Ok((_, warnings)) => expected.assert_eq(&warnings.to_string()),
        Err(errors) => panic!("it can't be used:\n{errors}"),
    }
}

/// What a file becomes that nothing is said about.
#[track_caller]
fn right(text: &str) -> Config {
    right_with(text, &[])
}

#[track_caller]
fn right_with(text: &str, variables: &[(&str, &str)]) -> Config {
    match parse(text, Strictness::Run, variables) {
        Ok((config, warnings)) if warnings.iter().next().is_none() => config,
        Ok((_, said)) | Err(said) => panic!("something is said about it:\n{said}"),
    }
}

/// A file with that source, and all else right.
fn source(source: &str) -> String {
    format!(
        "version: 1\nsources:\n  regards:\n{}\nsinks: {{ screen: {{ stdout: {{}} }} }}\nroutes: [{{ name: all, to: screen }}]\nunrouted: drop\n",
        indented(source)
    )
}

/// A file with that sink, and all else right.
fn sink(sink: &str) -> String {
    format!(
        "version: 1\nsources: {{ regards: {{ amqp: {{ url: amqp://localhost, queue: q }} }} }}\nsinks:\n  out:\n{}\nroutes: [{{ name: all, to: out }}]\nunrouted: drop\n",
        indented(sink)
    )
}

/// A file with those routes, the sinks `a` and `b`, and all else right.
fn routes(routes: &str) -> String {
    format!(
        "version: 1\nsources: {{ regards: {{ amqp: {{ url: amqp://localhost, queue: q }} }} }}\nsinks: {{ a: {{ stdout: {{}} }}, b: {{ stdout: {{}} }} }}\nroutes:\n{}\nunrouted: drop\n",
        indented(routes)
    )
}

fn indented(text: &str) -> String {
    text.trim_matches('\n').lines().flat_map(|line| ["    ", line, "\n"]).collect()
}
