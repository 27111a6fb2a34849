//! Recognizes input that is often mistaken for CORS settings, and suggests the command whose
//! output can be read.

use super::Unreadable;

/// Whether bytes are UTF-16: by their byte order mark, or by a zero next to the first character.
pub(super) fn is_utf16(bytes: &[u8]) -> bool {
    match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => true,
        [first, 0, ..] | [0, first, ..] => first.is_ascii_graphic(),
        _ => false,
    }
}

/// Recognizes other kinds of text.
pub(super) fn other(text: &str) -> Option<Unreadable> {
    let start = text.len() - text.trim_start().len();
    let text = text.trim_start();
    let lower: String = text
        .chars()
        .take(200)
        .collect::<String>()
        .to_ascii_lowercase();
    let named = |message: &str, hint: &str| {
        let end = start + text.lines().next().unwrap_or_default().len();
        Some(Unreadable::at(start..end, message).hint(hint))
    };
    if lower.starts_with("<!doctype html") || lower.starts_with("<html") {
        return named(
            "this is an HTML page",
            "it may be a login page or an error; check what the command fetched",
        );
    }
    if lower.starts_with("&lt;") {
        return named(
            "this is XML with its `<` written as `&lt;`",
            "replace `&lt;` and `&gt;` by `<` and `>`; then `s3cors check` accepts it",
        );
    }
    let root = match text.strip_prefix("<?xml") {
        Some(rest) => rest
            .split_once("?>")
            .map_or("", |(_, rest)| rest)
            .trim_start(),
        None => text,
    };
    if root.starts_with("<Error>") {
        let inside = |name: &str| {
            let (_, rest) = root.split_once(&format!("<{name}>"))?;
            rest.split_once(&format!("</{name}>"))
                .map(|(inside, _)| inside)
        };
        let code = inside("Code").unwrap_or_default();
        let hint = match code {
            "NoSuchCORSConfiguration" => "the bucket has no CORS configuration and needs no file",
            _ => "fix the command as the error says",
        };
        return named(
            &format!("this is an S3 error, not a configuration: {code}"),
            hint,
        );
    }
    let first = text.split_whitespace().next().unwrap_or_default();
    let is_text_output = [
        "CORSRULES",
        "ALLOWEDHEADERS",
        "ALLOWEDMETHODS",
        "ALLOWEDORIGINS",
    ];
    let is_table = lower.starts_with("----") && text.contains("GetBucketCors");
    if is_text_output.contains(&first) || is_table {
        return named(
            "this is the AWS CLI's output for people, from `--output text` or `table`",
            "aws s3api get-bucket-cors --bucket BUCKET --output json | s3cors import -",
        );
    }
    let is_cdk = text.contains("aws-cdk") || text.contains("s3.HttpMethods");
    if is_cdk && !text.starts_with(['{', '[', '<']) {
        return named(
            "this is the source code of a CDK app",
            "import its output: cdk synth | s3cors import -",
        );
    }
    None
}
