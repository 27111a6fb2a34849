//! What `run` serves: the routes of a config, or one route from flags.
//!
//! Each flag has an environment variable. Flags override variables, so that a variable set by an
//! image or a unit is never in the way.

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, Error, FromArgMatches};

use crate::config::Source;
use crate::cors::{CorsConfiguration, CorsRule};

pub(super) const USAGE: &str = "\
s3cors run [OPTIONS] --config <FILE>
       s3cors run [OPTIONS] --upstream <URL> --cors <FILE>
       s3cors run [OPTIONS] --upstream <URL> --allow-origin <ORIGIN>...";

/// A config, or an upstream with its policy; never both.
#[derive(Clone, Debug)]
pub(super) struct Routes(pub(super) Source);

#[derive(Clone, Debug, Args)]
struct Flags {
    /// The config: listeners, routes, limits.
    #[arg(long, short, env = "S3CORS_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Without a config: the upstream that all requests are forwarded to.
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
    /// Without a policy file, for development: an origin that may do everything. Repeatable.
    #[arg(
        long,
        env = "S3CORS_ALLOW_ORIGIN",
        value_name = "ORIGIN",
        value_delimiter = ','
    )]
    allow_origin: Vec<String>,
}

/// Replaces the policy's file name in messages.
const ALLOW_ORIGIN: &str = "--allow-origin";

/// The policy of `--allow-origin`: one rule that allows these origins everything.
fn everything_for(origins: &[String]) -> String {
    let all = |values: &[&str]| values.iter().map(ToString::to_string).collect();
    let rule = CorsRule {
        allowed_origins: origins
            .iter()
            .map(|origin| origin.trim().to_owned())
            .collect(),
        allowed_methods: all(&["GET", "PUT", "POST", "DELETE", "HEAD"]),
        allowed_headers: all(&["*"]),
        // The fields that S3 clients' scripts read
        // (https://docs.aws.amazon.com/AmazonS3/latest/userguide/ManageCorsUsing.html).
        expose_headers: all(&["ETag", "x-amz-request-id", "x-amz-id-2", "x-amz-version-id"]),
        ..CorsRule::default()
    };
    CorsConfiguration { rules: vec![rule] }.to_xml()
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
            allow_origin,
        } = Flags::from_arg_matches(matches)?;
        let is = |id, source| matches.value_source(id) == Some(source);
        let config_is = |source| is("config", source);
        let flags_are =
            |source| is("upstream", source) || is("cors", source) || is("allow_origin", source);
        let typed = ValueSource::CommandLine;
        if config_is(typed) && flags_are(typed) {
            let message = "--config <FILE> cannot be used with --upstream, --cors or \
                           --allow-origin; use one or the other";
            return Err(error(ErrorKind::ArgumentConflict, message));
        }
        let variables = ValueSource::EnvVariable;
        if !config_is(typed) && !flags_are(typed) && config_is(variables) && flags_are(variables) {
            let flag = if is("upstream", variables) {
                "S3CORS_UPSTREAM"
            } else if is("cors", variables) {
                "S3CORS_CORS"
            } else {
                "S3CORS_ALLOW_ORIGIN"
            };
            let message = format!(
                "S3CORS_CONFIG cannot be used with {flag}: both are set in the environment; unset one, or use the other's flag"
            );
            return Err(error(ErrorKind::ArgumentConflict, &message));
        }
        let config = config.filter(|_| !flags_are(typed));
        // Between a policy file and origins, flags override variables, too.
        let (cors, allow_origin) = match (is("cors", typed), is("allow_origin", typed)) {
            (true, false) => (cors, Vec::new()),
            (false, true) => (None, allow_origin),
            (true, true) | (false, false) => (cors, allow_origin),
        };
        if config.is_none() && cors.is_some() && !allow_origin.is_empty() {
            let message = "--allow-origin <ORIGIN> (S3CORS_ALLOW_ORIGIN) cannot be used with --cors \
                           <FILE> (S3CORS_CORS); use one or the other";
            return Err(error(ErrorKind::ArgumentConflict, message));
        }
        let missing = match (config, upstream.is_empty(), cors) {
            (Some(config), _, _) => return Ok(Self(Source::File(config))),
            (None, false, Some(cors)) => {
                let upstreams = upstream;
                return Ok(Self(Source::Flags { upstreams, cors }));
            }
            (None, false, None) if !allow_origin.is_empty() => {
                return Ok(Self(Source::Inline {
                    upstreams: upstream,
                    cors: everything_for(&allow_origin),
                    name: ALLOW_ORIGIN,
                }));
            }
            (None, true, None) if !allow_origin.is_empty() => {
                "a policy needs an upstream; add --upstream <URL> (S3CORS_UPSTREAM)"
            }
            (None, true, None) => {
                "nothing to serve; give a config (--config <FILE>), or an upstream and its policy (--upstream <URL> --cors <FILE>, or --allow-origin <ORIGIN>)"
            }
            (None, false, None) => {
                "an upstream needs a policy; add --cors <FILE> (S3CORS_CORS) or --allow-origin <ORIGIN>"
            }
            (None, true, Some(_)) => {
                "a policy needs an upstream; add --upstream <URL> (S3CORS_UPSTREAM)"
            }
        };
        Err(error(ErrorKind::MissingRequiredArgument, missing))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Formats an error like clap's own.
fn error(kind: ErrorKind, message: &str) -> Error {
    let mut command = Command::new("s3cors run").override_usage(USAGE);
    Error::raw(kind, message).format(&mut command)
}
