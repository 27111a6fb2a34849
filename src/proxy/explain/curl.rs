//! Command lines that show what was explained.

use super::Hypothetical;
use super::exchange::Exchange;

/// The preflight, as the browser sends it.
pub(super) fn preflight(request: &Hypothetical, exchange: &Exchange) -> String {
    let mut fields = vec![
        format!("Origin: {}", request.origin.trim()),
        format!("Access-Control-Request-Method: {}", exchange.method),
    ];
    if !exchange.requested_headers.is_empty() {
        let names = exchange.requested_headers.join(",");
        fields.push(format!("Access-Control-Request-Headers: {names}"));
    }
    line("-i -X OPTIONS", &request.url, &fields)
}

/// The request itself, where it only reads: to try an upload is for whoever means it.
pub(super) fn actual(request: &Hypothetical, exchange: &Exchange) -> Option<String> {
    let options = match exchange.method {
        http::Method::GET => "-o /dev/null -D -",
        http::Method::HEAD => "-I",
        _ => return None,
    };
    let fields = [format!("Origin: {}", request.origin.trim())];
    Some(line(options, &request.url, &fields))
}

fn line(options: &str, url: &str, fields: &[String]) -> String {
    // Brackets of an address or a query are no patterns.
    let literal = if url.contains(['[', ']']) { "-g " } else { "" };
    let fields: String = fields
        .iter()
        .map(|field| format!(" -H {}", quoted(field)))
        .collect();
    format!("curl -s {literal}{options}{fields} {}", quoted(url))
}

/// A word for a POSIX shell that stands for itself.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_takes_every_word_as_it_is() {
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("'; rm -rf $HOME #"), r"''\''; rm -rf $HOME #'");
    }
}
