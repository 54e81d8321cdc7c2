//! `test`: runs the test cases for the routes.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::{EXIT_INVALID_INPUT, Global, InvalidInput, load_offline, message, plural, print_diagnostics};
use crate::config::{Case, CaseMessage, Config, Options, Strictness};
use crate::dry_run::DryRun;
use crate::event::Message;
use crate::telemetry::printable;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Files of test cases [default: beside the configuration, routes.test.yaml for routes.yaml]
    files: Vec<PathBuf>,
    /// Also write the results to this file as `JUnit` XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

struct CaseResult {
    name: String,
    line: usize,
    took: Duration,
    /// Empty if the case passed.
    differences: Vec<String>,
}

pub fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let config = match load_offline(&global.config, global) {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    let files = if arguments.files.is_empty() { vec![default_file(&global.config)?] } else { arguments.files.clone() };
    let mut results = Vec::new();
    for path in &files {
        match test(path, &config, global)? {
            Some(cases) => results.push((path.as_path(), cases)),
            None => return Ok(ExitCode::from(EXIT_INVALID_INPUT)),
        }
    }
    let passed = report(&results, &mut io::stdout().lock())?;
    if let Some(path) = &arguments.junit {
        let xml = junit(&results).to_string().context("the results can't be written as XML")?;
        std::fs::write(path, xml).with_context(|| format!("{} can't be written", path.display()))?;
    }
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// For `routes.yaml` that is `routes.test.yaml`.
fn default_file(config: &Path) -> anyhow::Result<PathBuf> {
    let path = config.with_extension("test.yaml");
    if !path.exists() {
        let error = format!("there is no {}: write it, or name other files of test cases", path.display());
        return Err(InvalidInput(error).into());
    }
    Ok(path)
}

/// Runs the cases of one file. `None`: the file has errors, which were printed.
fn test(path: &Path, config: &Config, global: &Global) -> anyhow::Result<Option<Vec<CaseResult>>> {
    let options = Options::of_process(Strictness::Offline, Some(global.data_dir()));
    let cases = match Case::load(path, config, &options) {
        Ok((cases, warnings)) => {
            print_diagnostics(&warnings);
            cases
        }
        Err(errors) => {
            print_diagnostics(&errors);
            return Ok(None);
        }
    };
    let results = cases.into_iter().map(|case| {
        let began = Instant::now();
        let differences =
            differences(&case, config).with_context(|| format!("{}:{}: {}", path.display(), case.line, case.name))?;
        Ok(CaseResult { name: case.name, line: case.line, took: began.elapsed(), differences })
    });
    results.collect::<anyhow::Result<_>>().map(Some)
}

fn differences(case: &Case, config: &Config) -> anyhow::Result<Vec<String>> {
    let source = || message::source(config, case.source.as_deref());
    let of_case = |mut message: Message| {
        if let Some(tenant) = &case.tenant {
            message::set_tenant(&mut message, tenant);
        }
        message
    };
    let (dry_run, message) = match &case.message {
        CaseMessage::Sample(sample) => {
            let message = of_case(Message { source: source()?, ..(**sample).clone() });
            (DryRun::of(config, &message)?, message)
        }
        CaseMessage::Line(path, line) => {
            let message = of_case(message::line_of(path, *line, &source()?)?);
            (DryRun::of(config, &message)?, message)
        }
        CaseMessage::Digest(samples) => {
            let source = source()?;
            let messages = samples.iter().map(|sample| of_case(Message { source: source.clone(), ..sample.clone() }));
            match DryRun::of_digest(config, messages.collect())? {
                Ok(digest) => digest,
                Err(apart) => return Ok(vec![apart.to_string()]),
            }
        }
        CaseMessage::Alert(alert) => DryRun::of_alert(config, alert)?,
    };
    let explanation = dry_run.explain(config, &message);
    let alerts = case.alerts.iter().flat_map(|alerts| explanation.alerts_differ(alerts));
    let sinks = case.expect.iter().flat_map(|expected| explanation.differences(expected, config));
    Ok(alerts.chain(sinks).collect())
}

/// True if all cases passed.
fn report(results: &[(&Path, Vec<CaseResult>)], out: &mut impl Write) -> io::Result<bool> {
    let (mut passed, mut failed) = (0_usize, 0_usize);
    for (path, cases) in results {
        for CaseResult { name, line, differences, .. } in cases {
            if differences.is_empty() {
                passed += 1;
                continue;
            }
            failed += 1;
            writeln!(out, "{}:{line}: {}", path.display(), printable(name))?;
            for difference in differences {
                writeln!(out, "  {}", printable(difference))?;
            }
        }
    }
    let sum = if failed > 0 { format!("{failed} failed") } else { "none failed".to_owned() };
    writeln!(out, "{}: {passed} passed, {sum}", plural(passed + failed, "case"))?;
    Ok(failed == 0)
}

fn junit(results: &[(&Path, Vec<CaseResult>)]) -> Report {
    let mut report = Report::new("regards-relay");
    for (path, cases) in results {
        let mut suite = TestSuite::new(path.display().to_string());
        for CaseResult { name, line, took, differences } in cases {
            let status = if differences.is_empty() {
                TestCaseStatus::success()
            } else {
                let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                status.set_message(differences.first().cloned().unwrap_or_default());
                status.set_description(differences.join("\n"));
                status
            };
            let mut case = TestCase::new(name.as_str(), status);
            case.set_time(*took).set_classname(path.display().to_string());
            case.extra.insert("file".into(), path.display().to_string().into());
            case.extra.insert("line".into(), line.to_string().into());
            suite.add_test_case(case);
        }
        report.add_test_suite(suite);
    }
    report
}
