//! Parses an HTTP/1.1 request target: its form, and its host, path and query.

use std::borrow::Cow;

/// A target that a reverse proxy serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target<'t> {
    /// The host, in absolute-form.
    pub(crate) authority: Option<&'t str>,
    /// Path and query, in origin-form. `*` stays `*`.
    pub(crate) origin_form: Cow<'t, str>,
    /// Where the path ends in it.
    path_end: usize,
}

impl<'t> Target<'t> {
    /// Parses a target of visible ASCII: origin-form, absolute-form of http or https, or `*`, which
    /// is only for OPTIONS ([RFC 9112 §3.2]). `None`: any other form.
    ///
    /// Every byte stays as it came, whether or not RFC 3986 allows it.
    ///
    /// [RFC 9112 §3.2]: https://www.rfc-editor.org/rfc/rfc9112#section-3.2
    pub(crate) fn parse(method: &str, target: &'t str) -> Option<Self> {
        if method == "CONNECT" {
            return None;
        }
        if target.starts_with('/') || target == "*" && method == "OPTIONS" {
            return Some(Self::new(None, target.into()));
        }
        let (scheme, rest) = target.split_once("://")?;
        if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
            return None;
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, origin_form) = rest.split_at(end);
        let origin_form = match origin_form.starts_with('/') {
            true => origin_form.into(),
            false => format!("/{origin_form}").into(),
        };
        Some(Self::new(Some(authority), origin_form))
    }

    fn new(authority: Option<&'t str>, origin_form: Cow<'t, str>) -> Self {
        Self {
            authority,
            path_end: origin_form.find('?').unwrap_or(origin_form.len()),
            origin_form,
        }
    }

    /// The path.
    pub(crate) fn path(&self) -> &str {
        self.origin_form.get(..self.path_end).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_in_any_other_form_is_refused() {
        for (method, target, expected) in [
            ("GET", "/", Some((None, "/"))),
            ("GET", "//a?b?c", Some((None, "//a?b?c"))),
            ("GET", "/`<>\"{}|^", Some((None, "/`<>\"{}|^"))),
            ("OPTIONS", "*", Some((None, "*"))),
            ("GET", "http://a.example", Some((Some("a.example"), "/"))),
            ("GET", "HTTPS://a:1/b?c", Some((Some("a:1"), "/b?c"))),
            ("GET", "http://a?b/c", Some((Some("a"), "/?b/c"))),
            ("OPTIONS", "http://a/", Some((Some("a"), "/"))),
            ("GET", "*", None),
            ("GET", "a.example:80", None),
            ("GET", "a/b", None),
            ("GET", "ftp://a/b", None),
            ("GET", "", None),
            ("CONNECT", "a.example:80", None),
            ("CONNECT", "/", None),
        ] {
            let read = Target::parse(method, target);
            let read = read
                .as_ref()
                .map(|read| (read.authority, &*read.origin_form));
            assert_eq!(read, expected, "{method} {target}");
        }
        let target = Target::parse("GET", "http://a?b/c").unwrap();
        assert_eq!(target.path(), "/");
    }
}
