//! The config's `version`: which s3cors it was written for.
//!
//! An older version changes nothing: a key that is removed later is deprecated first, with a warning.
//! With a newer version, errors about unknown keys and values say so, because the config is probably
//! right and the program too old. A config for a newer version without such keys is accepted, so that a
//! downgrade needs no edit.

use super::diagnostic::Diagnostic;
use super::file::Reader;
use super::table::Table;

/// A version in the config: MAJOR.MINOR or MAJOR.MINOR.PATCH.
const PATTERN: &str = "^[0-9]{1,9}\\.[0-9]{1,9}(\\.[0-9]{1,9})?$";

/// The version of this program.
const OWN: &str = env!("CARGO_PKG_VERSION");

/// Reads `version`, and makes the reader mention it in errors if it is newer than this program.
pub(super) fn read(root: &mut Table<'_>, reader: &mut Reader<'_>) {
    let Some(written) = root.pattern("version", PATTERN, reader) else {
        return;
    };
    let Some(version) = parse(written.get_ref()) else {
        let message = format!("`{}` isn't a version of s3cors", written.get_ref());
        let diagnostic = Diagnostic::error("invalid-value", message);
        let help = "write MAJOR.MINOR, as `s3cors --version` prints it: version = \"0.1\"";
        reader.push(diagnostic.help(help), written.span());
        return;
    };
    if parse(OWN).is_some_and(|own| version > own) {
        let version = written.get_ref();
        reader.newer = Some(format!("the config is for s3cors {version}, this is {OWN}").into());
    }
}

fn parse(text: &str) -> Option<[u32; 3]> {
    let mut version = [0; 3];
    let parts: Vec<&str> = text.split('.').collect();
    if !(2..=3).contains(&parts.len()) {
        return None;
    }
    for (number, part) in version.iter_mut().zip(parts) {
        let is_number = (1..=9).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        *number = part.parse().ok().filter(|_| is_number)?;
    }
    Some(version)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::check_text;

    use super::*;

    fn errors(version: &str, rest: &str) -> String {
        let text = format!(
            "version = {version}\n{rest}\n[[route]]\nhost = '*'\nupstream = 'http://127.0.0.1:9000'\n"
        );
        check_text(Path::new("s3cors.toml"), text.as_bytes())
            .1
            .render(false)
    }

    #[test]
    fn an_unknown_key_of_a_newer_config_names_both_versions_and_what_to_do() {
        for version in ["999.0", "0.999", "0.1.999"] {
            let text = errors(&format!("\"{version}\""), "cache_seconds = 5");
            let why = format!(
                "unknown key `cache_seconds`: the config is for s3cors {version}, this is {OWN}"
            );
            assert!(text.contains(&why), "{text}");
            assert!(
                text.contains("upgrade s3cors, or remove `cache_seconds`"),
                "{text}"
            );
            let text = errors(
                &format!("\"{version}\""),
                "access_log = { format = \"ndjson\" }",
            );
            let why = format!(
                "`format` cannot be \"ndjson\": the config is for s3cors {version}, this is {OWN}"
            );
            assert!(text.contains(&why), "{text}");
        }
    }

    #[test]
    fn a_version_alone_changes_nothing() {
        for version in ["0.0", "0.1", "0.1.0", "999.0", OWN] {
            assert_eq!(errors(&format!("\"{version}\""), ""), "", "{version}");
        }
        for version in ["0.0", OWN] {
            let text = errors(&format!("\"{version}\""), "cache_seconds = 5");
            assert!(text.contains("unknown key `cache_seconds`\n"), "{text}");
        }
    }

    #[test]
    fn an_invalid_version_is_refused() {
        for version in [
            "\"\"",
            "\"1\"",
            "\"v0.1\"",
            "\"0.1.2.3\"",
            "\"0.\"",
            "\"0.+1\"",
            "\"0.1-beta\"",
            "\"0.9999999999\"",
            "0.1",
            "1",
        ] {
            let text = errors(version, "");
            assert!(text.starts_with("error["), "{version}: {text}");
        }
    }
}
