//! What `run` serves: the routes of a config, or the one that flags name.
//!
//! Each of these flags has a variable. What is typed goes before what the environment says: a
//! variable that an image or a unit sets for everybody must not be in the way of who knows better.

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, Error, FromArgMatches};

use crate::config::Source;

pub(super) const USAGE: &str = "\
s3cors run [OPTIONS] --config <FILE>
       s3cors run [OPTIONS] --upstream <URL> --cors <FILE>";

/// A config, or an upstream and its policy; never both.
#[derive(Clone, Debug)]
pub(super) struct Routes(pub(super) Source);

#[derive(Clone, Debug, Args)]
struct Flags {
    /// The config: listeners, routes, limits.
    #[arg(long, short, env = "S3CORS_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Without a config: what every request is forwarded to.
    #[arg(
        long,
        env = "S3CORS_UPSTREAM",
        value_name = "URL",
        value_delimiter = ','
    )]
    upstream: Vec<String>,
    /// Without a config: the policy, S3's CORSConfiguration.
    #[arg(long, env = "S3CORS_CORS", value_name = "FILE")]
    cors: Option<PathBuf>,
}

impl Args for Routes {
    fn augment_args(command: Command) -> Command {
        Flags::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Flags::augment_args_for_update(command)
    }
}

impl FromArgMatches for Routes {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let Flags {
            config,
            upstream,
            cors,
        } = Flags::from_arg_matches(matches)?;
        let is = |id, source| matches.value_source(id) == Some(source);
        let config_is = |source| is("config", source);
        let flags_are = |source| is("upstream", source) || is("cors", source);
        let typed = ValueSource::CommandLine;
        if config_is(typed) && flags_are(typed) {
            let message = "--config <FILE> cannot be used with --upstream or --cors: either says \
                           what is served";
            return Err(error(ErrorKind::ArgumentConflict, message));
        }
        let variables = ValueSource::EnvVariable;
        if !config_is(typed) && !flags_are(typed) && config_is(variables) && flags_are(variables) {
            let flag = if is("upstream", variables) {
                "S3CORS_UPSTREAM"
            } else {
                "S3CORS_CORS"
            };
            let message = format!(
                "S3CORS_CONFIG cannot be used with {flag}: both are in the environment, and either \
                 says what is served; unset one, or type the flag for the other"
            );
            return Err(error(ErrorKind::ArgumentConflict, &message));
        }
        let config = config.filter(|_| !flags_are(typed));
        let missing = match (config, upstream.is_empty(), cors) {
            (Some(config), _, _) => return Ok(Self(Source::File(config))),
            (None, false, Some(cors)) => {
                let upstreams = upstream;
                return Ok(Self(Source::Flags { upstreams, cors }));
            }
            (None, true, None) => {
                "nothing says what to serve: name a config (--config <FILE>), or an upstream and \
                 its policy (--upstream <URL> --cors <FILE>)"
            }
            (None, false, None) => {
                "an upstream needs a policy: --cors <FILE> (S3CORS_CORS) is not given"
            }
            (None, true, Some(_)) => {
                "a policy needs an upstream: --upstream <URL> (S3CORS_UPSTREAM) is not given"
            }
        };
        Err(error(ErrorKind::MissingRequiredArgument, missing))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// As the other errors of the command line look.
fn error(kind: ErrorKind, message: &str) -> Error {
    let mut command = Command::new("s3cors run").override_usage(USAGE);
    Error::raw(kind, message).format(&mut command)
}
