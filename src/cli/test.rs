//! `s3cors test`: checks a config or policy against files of expected results.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use quick_xml::escape::escape;
use serde_json::{Value, json};

use crate::text::visible::visible;

use super::expectations::{Outcomes, TestOutcome, run};
use super::manual::Manual;
use super::output::{Failure, NO, YES, print};
use super::record::{About, Recording};

pub(super) const MANUAL: Manual = Manual {
    examples: &[
        ("Tests of a config, in CI", "s3cors test tests.toml"),
        (
            "As JUnit XML, for a CI system's test report",
            "s3cors test --format junit tests.toml > report.xml",
        ),
        (
            "Which requests of an access log a change of policy affects",
            "s3cors test --write recorded.toml --config s3cors.toml --log access.json && s3cors test recorded.toml",
        ),
    ],
    exit_codes: &[
        ("0", "all tests passed"),
        ("1", "at least one failed"),
        ("2", "bad usage, or a file that is unreadable or invalid"),
    ],
    environment: &[],
    files: &[],
};

/// Check a config or policy against expected results.
///
/// Each file names a config or policy, and lists requests of scripts with their expected results:
/// a response that the script can read, or the reason why it is blocked. Starts nothing and sends
/// nothing over the network.
///
/// With --write, records today's decisions about an access log's requests as such a file. After a
/// change of policy, run the file: the tests that fail are the requests that the change affects.
/// Requests with the same decision are one test. The log records the headers of preflights only.
#[derive(Debug, Args)]
pub(super) struct Test {
    /// The expectations, TOML; paths in them are relative to the file.
    #[arg(value_name = "FILE", required_unless_present = "write")]
    files: Vec<PathBuf>,
    /// Write a file of tests instead, with today's results of an access log's requests. "-"
    /// prints it.
    #[arg(long, value_name = "FILE", requires = "log", requires = "about", conflicts_with_all = ["files", "format"])]
    write: Option<PathBuf>,
    /// An access log, as JSON lines, may be gzipped; with --cors also in the combined format, which has no hosts.
    /// "-" reads standard input. Repeatable.
    #[arg(long, value_name = "LOG", requires = "write")]
    log: Vec<PathBuf>,
    /// The config to test.
    #[arg(long, value_name = "FILE", requires = "write", group = "about")]
    config: Option<PathBuf>,
    /// The policy to test.
    #[arg(long, value_name = "FILE", requires = "write", group = "about")]
    cors: Option<PathBuf>,
    /// The output format.
    #[arg(long, value_enum, default_value_t)]
    format: TestFormat,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum TestFormat {
    /// For people.
    #[default]
    Human,
    /// For programs.
    Json,
    /// JUnit XML.
    Junit,
}

impl Test {
    pub(super) fn execute(self) -> Result<u8, Failure> {
        let about = match (&self.config, &self.cors) {
            (Some(config), _) => Some(About::Config(config)),
            (None, Some(cors)) => Some(About::Policy(cors)),
            (None, None) => None,
        };
        if let (Some(file), Some(about)) = (&self.write, about) {
            let recording = Recording {
                file,
                about,
                logs: &self.log,
            };
            return recording.write();
        }
        let outcomes = self
            .files
            .iter()
            .map(|file| run(file))
            .collect::<Result<Vec<_>, _>>()?;
        let text = match self.format {
            TestFormat::Human => human(&outcomes),
            TestFormat::Json => format!("{:#}\n", to_json(&outcomes)),
            TestFormat::Junit => junit(&outcomes),
        };
        print(&text)?;
        let all_passed = tests(&outcomes).all(|test| test.passed);
        Ok(if all_passed { YES } else { NO })
    }
}

fn tests(outcomes: &[Outcomes]) -> impl Iterator<Item = &TestOutcome> {
    outcomes.iter().flat_map(|file| &file.tests)
}

/// The numbers of passed and failed tests.
fn counts<'o>(tests: impl Iterator<Item = &'o TestOutcome>) -> (usize, usize) {
    tests.fold((0, 0), |(passed, failed), test| match test.passed {
        true => (passed + 1, failed),
        false => (passed, failed + 1),
    })
}

fn human(outcomes: &[Outcomes]) -> String {
    let mut text = String::new();
    for file in outcomes {
        for test in file.tests.iter().filter(|test| !test.passed) {
            let place = format!("{}:{}", file.file.display(), test.line);
            let written = writeln!(
                text,
                "FAIL {} ({})\n  - expected: {}\n  + actual:   {}\n    {}",
                visible(&test.name),
                visible(&place),
                test.expected,
                test.actual,
                visible(&test.summary),
            );
            written.expect("a string takes every text");
        }
    }
    let (passed, failed) = counts(tests(outcomes));
    text + &format!("{passed} passed, {failed} failed\n")
}

fn to_json(outcomes: &[Outcomes]) -> Value {
    let (passed, failed) = counts(tests(outcomes));
    let tests = outcomes.iter().flat_map(|file| {
        file.tests.iter().map(|test| {
            json!({
                "file": file.file.display().to_string(),
                "line": test.line,
                "name": test.name,
                "passed": test.passed,
                "expected": test.expected,
                "actual": test.actual,
                "summary": test.summary,
            })
        })
    });
    json!({ "passed": passed, "failed": failed, "tests": tests.collect::<Vec<_>>() })
}

fn junit(outcomes: &[Outcomes]) -> String {
    let (passed, failed) = counts(tests(outcomes));
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites tests=\"{}\" failures=\"{failed}\">\n",
        passed + failed
    );
    for file in outcomes {
        let name = xml(&file.file.display().to_string());
        let (passed, failed) = counts(file.tests.iter());
        text += &format!(
            "  <testsuite name=\"{name}\" tests=\"{}\" failures=\"{failed}\">\n",
            passed + failed
        );
        for test in &file.tests {
            let case = format!(
                "    <testcase classname=\"{name}\" name=\"{}\" line=\"{}\"",
                xml(&test.name),
                test.line
            );
            text += &case;
            text += &match test.passed {
                true => "/>\n".to_owned(),
                false => format!(
                    ">\n      <failure message=\"expected {}, but it is {}\">{}</failure>\n    </testcase>\n",
                    xml(&test.expected),
                    xml(&test.actual),
                    xml(&test.summary),
                ),
            };
        }
        text += "  </testsuite>\n";
    }
    text + "</testsuites>\n"
}

/// Escapes text for XML; characters that XML does not allow are made visible.
fn xml(text: &str) -> String {
    escape(visible(text)).into_owned()
}
