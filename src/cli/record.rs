//! `s3cors test --write`: records today's decisions about an access log's requests as a file of
//! tests.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::path::{Path, PathBuf};

use crate::cors::fetch::Credentials;
use crate::explain::Hypothetical;
use crate::text::visible::visible;

use super::access_log_file;
use super::expectations::{Decided, Expected, SOME_URL, Subject};
use super::logged_request::{LoggedRequest, NotLogged};
use super::output::{Failure, YES, complain, print};

/// The maximum number of tests in a file.
const MAX_TESTS: usize = 10_000;

/// The longest line of a log.
const MAX_LINE: u64 = 64 * 1024;

/// The arguments of a recording.
pub(super) struct Recording<'r> {
    /// The file of tests; `-`: standard output.
    pub(super) file: &'r Path,
    /// The config or the policy to test.
    pub(super) about: About<'r>,
    /// The access logs; `-`: standard input.
    pub(super) logs: &'r [PathBuf],
}

/// The subject of the tests.
#[derive(Clone, Copy)]
pub(super) enum About<'r> {
    Config(&'r Path),
    Policy(&'r Path),
}

/// The requests of the logs, and counts of those left out.
#[derive(Default)]
struct Requests {
    /// The requests with the same decision: a sample path and their number.
    requests: BTreeMap<LoggedRequest, (String, u64)>,
    not_cors: u64,
    without_method: u64,
    unreadable: u64,
    beyond_limit: u64,
}

impl Recording<'_> {
    pub(super) fn write(&self) -> Result<u8, Failure> {
        let subject = match self.about {
            About::Config(config) => Subject::routes(config)?,
            About::Policy(cors) => Subject::policy(cors)?,
        };
        let mut requests = Requests::default();
        for log in self.logs {
            requests.read(log, &subject)?;
        }
        let mut text = self.head()?;
        let mut recorded = 0;
        let mut undecided = 0;
        for (request, (path, count)) in &requests.requests {
            let hypothetical = hypothetical(request, path, &subject);
            match subject.decide(&hypothetical) {
                Ok(decided) => {
                    recorded += 1;
                    text.push_str(&test(request, &hypothetical, &decided, *count, &subject));
                }
                // A route without a policy, or an invalid origin.
                Err(_) => undecided += count,
            }
        }
        if recorded == 0 {
            return Err(Failure::Usage(format!(
                "no request to record in the log:{}",
                requests.left_out(undecided)
            )));
        }
        self.save(&text)?;
        let left_out = requests.left_out(undecided);
        if !left_out.is_empty() {
            complain(&format!("s3cors: not recorded:{left_out}\n"));
        }
        Ok(YES)
    }

    fn is_printed(&self) -> bool {
        self.file == Path::new("-")
    }

    /// The line that names the config or the policy, relative to the file where that is possible.
    fn head(&self) -> Result<String, Failure> {
        let (key, path) = match self.about {
            About::Config(path) => ("config", path),
            About::Policy(path) => ("cors", path),
        };
        let full = |path: &Path| {
            fs::canonicalize(path)
                .map_err(|error| Failure::Usage(format!("cannot find {}: {error}", path.display())))
        };
        let mut named = full(path)?;
        if !self.is_printed() {
            let folder = self.file.parent().unwrap_or(Path::new(""));
            let folder = match folder.as_os_str().is_empty() {
                true => Path::new("."),
                false => folder,
            };
            if let Ok(below) = named.strip_prefix(full(folder)?) {
                named = below.to_owned();
            }
        }
        Ok(format!(
            "# Written by `s3cors test --write`: the results of an access log's requests. After a change of policy,\n\
             # `s3cors test` shows which results change.\n\n{key} = {}\n",
            quoted(&named.display().to_string())
        ))
    }

    fn save(&self, text: &str) -> Result<(), Failure> {
        if self.is_printed() {
            print(text)?;
            return Ok(());
        }
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).open(self.file);
        let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|error| {
            let name = self.file.display();
            Failure::Usage(match error.kind() {
                io::ErrorKind::AlreadyExists => {
                    format!("{name} exists: remove it, or name another file")
                }
                _ => format!("cannot write {name}: {error}"),
            })
        })
    }
}

impl Requests {
    fn read(&mut self, log: &Path, subject: &Subject) -> Result<(), Failure> {
        let name = log.display();
        let failed = |error: io::Error| Failure::Usage(format!("cannot read {name}: {error}"));
        let mut reader = access_log_file::open(log).map_err(failed)?;
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
            if read.map_err(failed)? == 0 {
                return Ok(());
            }
            if line.len() as u64 == MAX_LINE && !line.ends_with(b"\n") {
                return Err(Failure::Usage(format!(
                    "{name} has a line of more than {MAX_LINE} bytes, so it is not an access log"
                )));
            }
            match std::str::from_utf8(&line).map(str::trim) {
                Ok("") => {}
                Ok(line) => self.add(line, subject),
                Err(_) => self.unreadable += 1,
            }
        }
    }

    fn add(&mut self, line: &str, subject: &Subject) {
        let mut request = match LoggedRequest::read(line) {
            Ok(request) => request,
            Err(NotLogged::NotCors) => return self.not_cors += 1,
            Err(NotLogged::NoMethod) => return self.without_method += 1,
            Err(NotLogged::Unreadable) => return self.unreadable += 1,
        };
        // Requests to one bucket get the same decision: one of their paths is enough.
        let example = request.path.clone();
        request.path = subject.bucket_of(&request.host, &request.path);
        if let Some((_, count)) = self.requests.get_mut(&request) {
            *count += 1;
        } else if self.requests.len() < MAX_TESTS {
            self.requests.insert(request, (example, 1));
        } else {
            self.beyond_limit += 1;
        }
    }

    /// The requests that are not recorded, for people; empty if there are none.
    fn left_out(&self, undecided: u64) -> String {
        let reasons = [
            (self.not_cors, "requests without an Origin"),
            (
                self.without_method,
                "preflights whose requested method is not in the log",
            ),
            (
                self.unreadable,
                "lines that are cut or not from an access log",
            ),
            (
                undecided,
                "requests without a policy, or with an invalid origin or URL",
            ),
            (
                self.beyond_limit,
                "requests beyond the limit of 10,000 tests",
            ),
        ];
        let reasons = reasons.iter().filter(|(count, _)| *count > 0);
        reasons
            .map(|(count, what)| format!("\n  {count} {what}"))
            .collect()
    }
}

impl Subject {
    /// The part of a path that decides: its bucket.
    fn bucket_of(&self, host: &str, path: &str) -> String {
        match self {
            Self::Policy(_) => String::new(),
            Self::Routes(snapshot) => match snapshot.bucket(host.as_bytes(), path) {
                Ok(bucket) => bucket.unwrap_or_default(),
                // No policy applies, so the whole path matters.
                Err(_) => path.to_owned(),
            },
        }
    }
}

fn hypothetical(request: &LoggedRequest, path: &str, subject: &Subject) -> Hypothetical {
    Hypothetical {
        url: match subject {
            Subject::Routes(_) => format!("http://{}{path}", request.host),
            Subject::Policy(_) => SOME_URL.to_owned(),
        },
        origin: request.origin.clone(),
        method: request.method.clone(),
        headers: request.headers.clone(),
        credentials: match request.has_credentials {
            true => Credentials::Include,
            false => Credentials::SameOrigin,
        },
        read: Vec::new(),
    }
}

/// One `[[test]]`.
fn test(
    request: &LoggedRequest,
    hypothetical: &Hypothetical,
    decided: &Decided,
    count: u64,
    subject: &Subject,
) -> String {
    let is_config = matches!(subject, Subject::Routes(_));
    let mut name = format!("{} from {}", request.method, request.origin);
    if !request.headers.is_empty() {
        name += &format!(" with {}", request.headers.join(", "));
    }
    if is_config {
        name += &format!(" to {}", hypothetical.url);
    }
    let mut text = format!(
        "\n# Requests: {count}\n[[test]]\nname = {}\n",
        quoted(&visible(&name))
    );
    if is_config {
        text += &format!("url = {}\n", quoted(&hypothetical.url));
    }
    text += &format!("origin = {}\n", quoted(&request.origin));
    if request.method != "GET" {
        text += &format!("method = {}\n", quoted(&request.method));
    }
    if !request.headers.is_empty() {
        let names: Vec<_> = request.headers.iter().map(|name| quoted(name)).collect();
        text += &format!("headers = [{}]\n", names.join(", "));
    }
    if request.has_credentials {
        text += "credentials = \"include\"\n";
    }
    text += match decided.outcome {
        Expected::Readable => "expect = \"readable\"\n",
        Expected::Blocked => "expect = \"blocked\"\n",
    };
    if let Some(reason) = decided.reason {
        text += &format!("reason = \"{}\"\n", reason.as_str());
    }
    text
}

/// A string of TOML.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}
