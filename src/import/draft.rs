//! Drafts S3's rules: takes what S3 accepts, and notes everything else.

use std::ops::Range;

use crate::cors::{
    CorsConfiguration, CorsRule, MAX_ID, MAX_RULES, Options, S3_METHODS, is_origin, is_token,
};

use super::distinct::Distinct;
use super::document::{Node, Word};
use super::note::Note;
use super::variables::Filled;

/// The meaning of `*` in a source's origins, except the lone `*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stars {
    /// Any run of characters, as in S3.
    AnyRun,
    /// One label of a host name.
    OneLabel,
    /// A literal `*`, which no origin contains.
    Literal,
}

/// The rules and notes so far.
pub(super) struct Draft<'s> {
    pub(super) source: &'s str,
    pub(super) options: &'s Options,
    rules: Vec<CorsRule>,
    pub(super) notes: Vec<Note>,
}

impl<'s> Draft<'s> {
    pub(super) fn new(source: &'s str, options: &'s Options) -> Self {
        Self {
            source,
            options,
            rules: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// The rules as a configuration, and the notes in the order of the source.
    pub(super) fn finish(mut self) -> (CorsConfiguration, Vec<Note>) {
        self.notes.sort_by_key(|note| note.span.start);
        self.notes.dedup();
        let rules = self.rules;
        (CorsConfiguration { rules }, self.notes)
    }

    pub(super) fn note(&mut self, note: Note) {
        self.notes.push(note);
    }

    /// Whether the maximum number of rules is reached; if so, notes that the rules from `span` on
    /// are ignored.
    pub(super) fn is_full(&mut self, span: Range<usize>) -> bool {
        let is_full = self.rules.len() >= MAX_RULES;
        if is_full {
            let message = format!(
                "S3 accepts at most {MAX_RULES} rules; ignored this one and those after it"
            );
            let note = Note::new("other-setting", span, None, message);
            self.note(note.hint("merge origins with the same methods into one rule"));
        }
        is_full
    }

    /// Adds a rule, unless it could never match.
    pub(super) fn push(&mut self, rule: CorsRule, span: Range<usize>) {
        let lacking = match (&*rule.allowed_origins, &*rule.allowed_methods) {
            ([], _) => "origin",
            (_, []) => "method",
            _ if self.is_full(span.clone()) => return,
            _ => return self.rules.push(rule),
        };
        let message = format!("ignored a rule without any usable {lacking}");
        self.note(Note::new("rule-empty", span, None, message));
    }

    /// Adds a rule. If the source sends credentials to every origin, the origins that the rule
    /// lists keep them in a separate rule: S3's `*` removes them from a whole rule.
    pub(super) fn push_with_credentials(&mut self, rule: CorsRule, span: Range<usize>) {
        let any = |origin: &String| origin == "*";
        if !rule.allowed_origins.iter().any(any) {
            return self.push(rule, span);
        }
        let named = rule.allowed_origins.iter().filter(|origin| !any(origin));
        let named = CorsRule {
            allowed_origins: named.cloned().collect(),
            ..rule.clone()
        };
        if !named.allowed_origins.is_empty() {
            self.push(named, span.clone());
        }
        let rest = CorsRule {
            allowed_origins: vec!["*".to_owned()],
            ..rule
        };
        self.push(rest, span);
    }

    /// `AllowedOrigin`s.
    pub(super) fn origins(&mut self, words: &[Word], stars: Stars) -> Vec<String> {
        let mut origins = Distinct::default();
        for word in &self.filled(words) {
            let origin = &*word.text;
            let note =
                |code, message: String| Note::new(code, word.span.clone(), Some(origin), message);
            let is_pattern = origin.contains('*') && origin != "*";
            if origin.is_empty() {
                let message = "ignored an empty origin, which matches none";
                self.note(note("empty-value", message.to_owned()));
            } else if !is_origin(origin.as_bytes()) {
                let message = format!("ignored `{origin}`, which isn't an origin");
                self.note(note("origin-malformed", message));
            } else if is_pattern && stars == Stars::Literal {
                let message = format!(
                    "ignored `{origin}`: the source supports only a lone `*`, so this matches no origin there, but would in S3"
                );
                let hint = "if a pattern is intended, add it as an AllowedOrigin";
                self.note(note("origin-star-literal", message).hint(hint));
            } else if is_pattern && origin.matches('*').count() > 1 {
                let message = format!("ignored `{origin}`: S3 accepts one `*` per origin");
                let hint = "list the origins, or write several patterns with one `*` each";
                self.note(note("origin-two-wildcards", message).hint(hint));
            } else {
                if is_pattern && stars == Stars::OneLabel {
                    let message = format!(
                        "the `*` of `{origin}` stands for one label there, but for any characters in S3, so deeper subdomains match too"
                    );
                    let hint = "list the subdomains if others can create subdomains below them";
                    self.note(note("origin-pattern-wider", message).hint(hint));
                }
                origins.add(origin);
            }
        }
        origins.values
    }

    /// The words whose variables have a value in the source; notes the others.
    pub(super) fn filled(&mut self, words: &[Word]) -> Vec<Word> {
        let mut filled = Vec::with_capacity(words.len());
        for word in words {
            let text = &*word.text;
            let note =
                |code, message: String| Note::new(code, word.span.clone(), Some(text), message);
            match Filled::of(text) {
                Filled::Plain => filled.push(word.clone()),
                Filled::Default(default) => {
                    if !text.starts_with('!') {
                        let message = format!("used the default of `{text}`, `{default}`");
                        let hint = "write the value itself if the variable is set";
                        self.note(note("variable-default", message).hint(hint));
                    }
                    filled.push(Word {
                        text: default,
                        span: word.span.clone(),
                    });
                }
                Filled::Unknown => {
                    let message = format!("ignored `{text}`: its value is not in the source");
                    let hint = "write the value in its place, or import the rendered settings";
                    self.note(note("variable", message).hint(hint));
                }
            }
        }
        filled
    }

    /// `AllowedMethod`s; `*` stands for all methods that a rule may use.
    pub(super) fn methods(&mut self, words: &[Word]) -> Vec<String> {
        let words = &self.filled(words);
        if let Some(any) = words.iter().find(|word| word.text == "*") {
            return self.any_method(any.span.clone());
        }
        let mut methods = Distinct::default();
        for word in words {
            let method = &*word.text;
            let note =
                |code, message: String| Note::new(code, word.span.clone(), Some(method), message);
            let upper = method.to_ascii_uppercase();
            if self.may_name(method) {
                methods.add(method);
            } else if S3_METHODS.contains(&&*upper) {
                let message = format!("methods are case-sensitive; read `{method}` as {upper}");
                self.note(note("method-case", message));
                methods.add(&upper);
            } else if method.is_empty() {
                let message = "ignored an empty method";
                self.note(note("empty-value", message.to_owned()));
            } else if method == "OPTIONS" {
                let message = "ignored OPTIONS: preflights need no rule";
                let hint = "only a script's own OPTIONS request would need one, and S3's rules cannot allow it";
                let note = note("method-unsupported", message.to_owned());
                self.note(note.hint(hint).minor());
            } else {
                let message = format!("S3's rules cannot allow {method}");
                let hint = format!(
                    "if the upstream is not S3, set extra_methods = [\"{method}\"] in the route and import with --extra-method {method}"
                );
                let note = note("method-unsupported", message);
                let usable = is_token(method.as_bytes());
                self.note(if usable { note.hint(hint) } else { note });
            }
        }
        methods.values
    }

    /// Like [`methods`](Self::methods), for a source that allows methods that nobody can use
    /// there: ignoring them loses nothing.
    pub(super) fn methods_of_the_source(&mut self, words: &[Word]) -> Vec<String> {
        let before = self.notes.len();
        let methods = self.methods(words);
        for note in self.notes.iter_mut().skip(before) {
            note.is_minor = true;
        }
        methods
    }

    /// Every method that a rule may use, for a source that allows any method.
    fn any_method(&mut self, span: Range<usize>) -> Vec<String> {
        let methods = self.nameable_methods();
        let message = format!(
            "S3 does not support `*` for methods; expanded it to {}",
            methods.join(", ")
        );
        let hint = "other methods need the route's extra_methods, and --extra-method here";
        self.note(Note::new("any-method", span, Some("*"), message).hint(hint));
        methods
    }

    /// Adds the methods that Fetch allows whatever a response lists ([Fetch, «CORS-safelisted
    /// method»]), for a source that leaves the decision to the browser.
    ///
    /// [Fetch, «CORS-safelisted method»]: https://fetch.spec.whatwg.org/#cors-safelisted-method
    pub(super) fn add_safelisted(&mut self, methods: &mut Vec<String>, span: Range<usize>) {
        for method in ["GET", "HEAD", "POST"] {
            if methods.iter().any(|there| there == method) {
                continue;
            }
            let message = format!(
                "{method} is not listed, but browsers send it whatever the list says, and the source accepts it; so the rule allows it"
            );
            let hint = "remove it from the rule if no page uses it";
            let note = Note::new("safelisted-method", span.clone(), Some(method), message);
            self.note(note.hint(hint));
            methods.push(method.to_owned());
        }
    }

    /// S3's methods, and those that the route adds.
    fn nameable_methods(&self) -> Vec<String> {
        let extra = self.options.extra_methods.iter();
        let all = S3_METHODS
            .iter()
            .copied()
            .chain(extra.map(|method| method.as_str()));
        all.map(str::to_owned).collect()
    }

    fn may_name(&self, method: &str) -> bool {
        let mut extra = self.options.extra_methods.iter();
        S3_METHODS.contains(&method) || extra.any(|known| known == method)
    }

    /// `AllowedHeader`s.
    pub(super) fn headers(&mut self, words: &[Word]) -> Vec<String> {
        let mut headers = Distinct::default();
        for word in &self.filled(words) {
            if !self.is_field_name(word) {
                continue;
            }
            if word.text.matches('*').count() > 1 {
                let message = format!("ignored `{}`: S3 accepts one `*` per header", word.text);
                let span = word.span.clone();
                self.note(Note::new(
                    "header-two-wildcards",
                    span,
                    Some(&word.text),
                    message,
                ));
                continue;
            }
            headers.add(&word.text);
        }
        headers.values
    }

    /// `ExposeHeader`s.
    pub(super) fn exposed(&mut self, words: &[Word]) -> Vec<String> {
        let mut exposed = Distinct::default();
        for word in &self.filled(words) {
            if !self.is_field_name(word) {
                continue;
            }
            if word.text.contains('*') {
                let message = format!(
                    "ignored `{}`: S3 does not support `*` in ExposeHeader",
                    word.text
                );
                let hint = "add an ExposeHeader for each field that scripts read";
                let span = word.span.clone();
                self.note(Note::new("expose-wildcard", span, Some(&word.text), message).hint(hint));
                continue;
            }
            exposed.add(&word.text);
        }
        exposed.values
    }

    fn is_field_name(&mut self, word: &Word) -> bool {
        let (code, message) = if word.text.is_empty() {
            ("empty-value", "ignored an empty header name".to_owned())
        } else if is_token(word.text.as_bytes()) {
            return true;
        } else {
            let message = format!("ignored `{}`, which isn't a valid field name", word.text);
            ("header-malformed", message)
        };
        let span = word.span.clone();
        self.note(Note::new(code, span, Some(&word.text), message));
        false
    }

    /// `MaxAgeSeconds`.
    pub(super) fn max_age(&mut self, word: &Word) -> Option<u32> {
        let word = self.filled(std::slice::from_ref(word)).pop()?;
        let seconds = word.trimmed().parse().ok();
        let seconds = seconds.filter(|seconds| *seconds <= i32::MAX.unsigned_abs());
        if seconds.is_none() {
            let message = format!(
                "ignored `{}`, which isn't a number of seconds from 0 to {}",
                word.text,
                i32::MAX
            );
            let span = word.span.clone();
            self.note(Note::new("max-age-unusable", span, None, message));
        }
        seconds
    }

    /// `ID`.
    pub(super) fn id(&mut self, word: &Word) -> Option<String> {
        let unusable = |one: char| one.is_control() || matches!(one, '\u{fffe}' | '\u{ffff}');
        if word.text.chars().count() <= MAX_ID && !word.text.contains(unusable) {
            return Some(word.text.clone());
        }
        let message = format!(
            "ignored an ID that S3 rejects: it must have at most {MAX_ID} characters, without control characters"
        );
        self.note(Note::new("id-unusable", word.span.clone(), None, message));
        None
    }

    /// Notes that S3 sends credentials to the rule's origins, but the source does not.
    pub(super) fn credentials_are_added(&mut self, rule: &CorsRule, span: Range<usize>) {
        if rule.allowed_origins.is_empty() || rule.allowed_origins.iter().any(|one| one == "*") {
            return;
        }
        let message = "S3 allows credentials (cookies, HTTP authentication) to every origin that a rule lists; the source does not";
        let hint = "harmless if the upstream does not use cookies; otherwise unavoidable with listed origins";
        self.note(Note::new("credentials-added", span, None, message).hint(hint));
    }

    /// Notes that the source sends credentials to every origin, which S3 never does.
    pub(super) fn credentials_are_lost(&mut self, span: Range<usize>, of_the_source: &str) {
        let message = format!("{of_the_source}; S3 answers `*`, which never allows credentials");
        let hint = "list the origins that need credentials (cookies, HTTP authentication)";
        let note = Note::new("credentials-with-any-origin", span, Some("*"), message);
        self.note(note.hint(hint));
    }

    /// Notes every key of `map` that is not in `known`.
    pub(super) fn unknown_keys(&mut self, map: &Node, known: &[&str]) {
        for entry in map.entries() {
            let key = &*entry.key.text;
            if known.contains(&key) {
                continue;
            }
            let message = format!("ignored the unknown key `{key}`");
            let note = Note::new("unknown-key", entry.key.span.clone(), Some(key), message);
            let meant = crate::cors::nearest(key, known);
            self.note(match meant {
                Some(meant) => note.hint(format!("did you mean `{meant}`?")),
                None => note,
            });
        }
    }
}
