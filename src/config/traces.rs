//! The table `[traces]`, checked.

use std::path::Path;

use toml::Spanned;

use crate::telemetry::traces::TracesSettings;
use crate::upstream::endpoint::UpstreamSettings;

use super::diagnostic::Diagnostic;
use super::file::Reader;
use super::table::Table;
use super::upstream;

/// Reads `[traces]`; reports an error if this build cannot send traces.
pub(super) fn traces(
    root: &mut Table<'_>,
    base: &Path,
    reader: &mut Reader<'_>,
) -> Option<TracesSettings> {
    let mut table = root.table("traces", reader)?;
    let place = table.span();
    let endpoint = endpoint(&mut table, base, reader);
    let sample_ratio = table.ratio("sample_ratio", reader);
    let service_name = table.string("service_name", reader);
    table.finish(reader);
    if cfg!(not(feature = "otlp")) {
        let diagnostic = Diagnostic::error(
            "missing-feature",
            "this build of s3cors does not support traces",
        );
        let help = "build s3cors with `cargo build --release --features otlp`, or remove [traces]";
        reader.push(diagnostic.help(help), place);
        return None;
    }
    Some(TracesSettings {
        endpoint: endpoint?,
        sample_ratio: sample_ratio.map_or(1.0, Spanned::into_inner),
        service_name: service_name
            .map_or("s3cors", Spanned::into_inner)
            .to_owned(),
    })
}

fn endpoint(
    table: &mut Table<'_>,
    base: &Path,
    reader: &mut Reader<'_>,
) -> Option<UpstreamSettings> {
    let Some(written) = table.string("endpoint", reader) else {
        let help = "add endpoint = \"http://127.0.0.1:4318\"";
        table.require(
            "endpoint",
            "`traces` needs an `endpoint`",
            Some(help),
            reader,
        );
        return None;
    };
    match upstream::upstream(written.get_ref(), base) {
        Ok(settings) => Some(settings),
        Err(diagnostic) => {
            reader.push(*diagnostic, written.span());
            None
        }
    }
}
