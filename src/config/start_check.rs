//! Tests whether a start could open its logs and addresses. Creates, binds and changes nothing.

use std::io;

use crate::server::{Bind, socket};
use crate::telemetry::access_log;
use crate::telemetry::access_log::Destination;

use super::diagnostic::Diagnostic;
use super::source::SourceFile;
use super::{Config, Loaded};

impl Loaded {
    /// Reports what would prevent a start from opening its logs and addresses.
    pub fn try_start(&mut self) {
        let Some(config) = &self.config else {
            return;
        };
        for problem in problems(config) {
            self.report.push(match &self.text {
                Some(text) => problem.of(&SourceFile::unread(text.path())),
                None => problem,
            });
        }
    }
}

fn problems(config: &Config) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    if let Some(log) = &config.access_log
        && let Destination::File(path) = &log.path
        && let Err(error) = access_log::try_to_open(path)
    {
        let message = format!("`access_log.path`: cannot open `{}`", path.display());
        let problem = Diagnostic::error("cannot-open", message).detail(error.to_string());
        problems.push(with_folder_help(problem, &error));
    }
    let listeners = config.server.listeners.iter();
    let listeners = listeners.map(|listener| ("listen.address", &listener.address));
    let admin = config.admin.address.as_ref();
    let admin = admin.filter(|_| config.admin_asked_for);
    for (key, address) in listeners.chain(admin.map(|address| ("admin.address", address))) {
        problems.extend(of_address(key, address));
    }
    problems
}

fn of_address(key: &str, address: &Bind) -> Option<Diagnostic> {
    match address {
        Bind::Unix(path) => {
            let error = socket::try_unix(path).err()?;
            let message = format!("`{key}`: cannot listen on `{}`", path.display());
            let problem = Diagnostic::error("cannot-listen", message).detail(error.to_string());
            Some(with_folder_help(problem, &error))
        }
        Bind::Tcp(address) => {
            let error = socket::try_tcp(address.ip()).err()?;
            // A warning only: the config may be for another machine.
            let message = format!("`{key}`: this machine cannot listen on {}", address.ip());
            let problem = Diagnostic::warning("cannot-listen", message).detail(error.to_string());
            Some(problem.help(
                "`ip address` lists this machine's addresses; 0.0.0.0 and [::] stand for all of them",
            ))
        }
        // Only systemd can pass these, at a start.
        Bind::Systemd(_) => None,
    }
}

fn with_folder_help(problem: Diagnostic, error: &io::Error) -> Diagnostic {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            problem.help("create its folder, writable for the user that s3cors runs as")
        }
        io::ErrorKind::PermissionDenied => {
            problem.help("the user that s3cors runs as needs write access to it and its folder")
        }
        _ => problem,
    }
}
