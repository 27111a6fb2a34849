//! S3's rules while they are written: takes what S3 takes, and notes everything else.

use std::ops::Range;

use crate::cors::{
    CorsConfiguration, CorsRule, MAX_ID, MAX_RULES, Options, S3_METHODS, is_origin, is_token,
};

use super::distinct::Distinct;
use super::document::{Node, Word};
use super::note::Note;
use super::variables::Filled;

/// What `*` means among a source's origins, the lone `*` apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stars {
    /// Any run of characters, as in S3.
    AnyRun,
    /// One label of a host name.
    OneLabel,
    /// Itself: no origin has one.
    Literal,
}

/// The rules so far, and what there is to tell of them.
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

    /// Whether S3 takes no more rules; notes that what stands at `span` and after it is left out.
    pub(super) fn is_full(&mut self, span: Range<usize>) -> bool {
        let is_full = self.rules.len() >= MAX_RULES;
        if is_full {
            let message =
                format!("S3 takes {MAX_RULES} rules; this one and those after it are left out");
            let note = Note::new("other-setting", span, None, message);
            self.note(note.hint("put origins that share a rule's methods into one rule"));
        }
        is_full
    }

    /// Adds a rule, unless nothing could ever match it.
    pub(super) fn push(&mut self, rule: CorsRule, span: Range<usize>) {
        let lacking = match (&*rule.allowed_origins, &*rule.allowed_methods) {
            ([], _) => "origin",
            (_, []) => "method",
            _ if self.is_full(span.clone()) => return,
            _ => return self.rules.push(rule),
        };
        let message = format!("no {lacking} is left in this rule, so it is left out");
        self.note(Note::new("rule-empty", span, None, message));
    }

    /// Adds a rule; where the source sends credentials to every origin, those that the rule names
    /// keep them in a rule of their own: S3's `*` takes them from its whole rule.
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
                let message = "an empty origin is left out: it matches none";
                self.note(note("empty-value", message.to_owned()));
            } else if !is_origin(origin.as_bytes()) {
                let message = format!("`{origin}` is no origin and is left out");
                self.note(note("origin-malformed", message));
            } else if is_pattern && stars == Stars::Literal {
                let message = format!(
                    "the source knows `*` only by itself, so `{origin}` matches no origin there; \
                     it is left out, for in S3 it would match"
                );
                let hint = "add it as an AllowedOrigin if that is what was meant";
                self.note(note("origin-star-literal", message).hint(hint));
            } else if is_pattern && origin.matches('*').count() > 1 {
                let message = format!("S3 takes one `*` in an origin; `{origin}` is left out");
                let hint = "name the origins, or write several patterns with one `*` each";
                self.note(note("origin-two-wildcards", message).hint(hint));
            } else {
                if is_pattern && stars == Stars::OneLabel {
                    let message = format!(
                        "the `*` of `{origin}` stands for one label there, in S3 for any run of \
                         characters: deeper sub-domains get in too"
                    );
                    let hint = "name the sub-domains if strangers can have one below them";
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
                        let message = format!("`{text}` is taken as its default, `{default}`");
                        let hint = "write the value itself where another one is set";
                        self.note(note("variable-default", message).hint(hint));
                    }
                    filled.push(Word {
                        text: default,
                        span: word.span.clone(),
                    });
                }
                Filled::Unknown => {
                    let message = format!(
                        "`{text}` is filled in elsewhere: its value is not in the source, and it \
                         is left out"
                    );
                    let hint = "write the value in its place, or import what it is filled in to";
                    self.note(note("variable", message).hint(hint));
                }
            }
        }
        filled
    }

    /// `AllowedMethod`s; `*` is all that a rule may name.
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
                let message = format!("methods are case-sensitive; `{method}` is taken as {upper}");
                self.note(note("method-case", message));
                methods.add(&upper);
            } else if method.is_empty() {
                let message = "an empty method is left out";
                self.note(note("empty-value", message.to_owned()));
            } else if method == "OPTIONS" {
                let message = "OPTIONS is left out: preflights need no rule";
                let hint = "only a script's own OPTIONS request would, which S3 has no rules for";
                let note = note("method-unsupported", message.to_owned());
                self.note(note.hint(hint).minor());
            } else {
                let message = format!("S3 has no rules for {method}");
                let hint = format!(
                    "if the upstream is not S3: give the route extra_methods = [\"{method}\"] and \
                     import with --extra-method {method}"
                );
                let note = note("method-unsupported", message);
                let usable = is_token(method.as_bytes());
                self.note(if usable { note.hint(hint) } else { note });
            }
        }
        methods.values
    }

    /// As [`methods`](Self::methods), of a source that allows what nobody can use there: what is
    /// left out is no loss.
    pub(super) fn methods_of_the_source(&mut self, words: &[Word]) -> Vec<String> {
        let before = self.notes.len();
        let methods = self.methods(words);
        for note in self.notes.iter_mut().skip(before) {
            note.is_minor = true;
        }
        methods
    }

    /// Every method that a rule may name, where the source allows whatever there is.
    fn any_method(&mut self, span: Range<usize>) -> Vec<String> {
        let methods = self.nameable_methods();
        let message = format!(
            "S3 knows no `*` among methods; it is spelt {}",
            methods.join(", ")
        );
        let hint = "other methods need the route's extra_methods, and --extra-method here";
        self.note(Note::new("any-method", span, Some("*"), message).hint(hint));
        methods
    }

    /// Adds the methods that Fetch lets through whatever an answer lists ([Fetch,
    /// «CORS-safelisted method»]), for a source that leaves the judgement to the browser.
    ///
    /// [Fetch, «CORS-safelisted method»]: https://fetch.spec.whatwg.org/#cors-safelisted-method
    pub(super) fn add_safelisted(&mut self, methods: &mut Vec<String>, span: Range<usize>) {
        for method in ["GET", "HEAD", "POST"] {
            if methods.iter().any(|there| there == method) {
                continue;
            }
            let message = format!(
                "{method} is not listed, but no list keeps a browser from it: the source lets it \
                 through, so the rule allows it"
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
                let message = format!("S3 takes one `*` in a header; `{}` is left out", word.text);
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
                    "S3 takes no `*` in ExposeHeader; `{}` is left out",
                    word.text
                );
                let hint = "name every field that scripts read, each in an ExposeHeader";
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
            ("empty-value", "an empty header name is left out".to_owned())
        } else if is_token(word.text.as_bytes()) {
            return true;
        } else {
            let message = format!("`{}` is no field name and is left out", word.text);
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
                "`{}` is no number of seconds that S3 takes (0 to {}); it is left out",
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
        let message = format!("S3 takes no such ID: at most {MAX_ID} characters, none a control");
        self.note(Note::new("id-unusable", word.span.clone(), None, message));
        None
    }

    /// Notes that S3 sends credentials to the rule's origins, which the source does not.
    pub(super) fn credentials_are_added(&mut self, rule: &CorsRule, span: Range<usize>) {
        if rule.allowed_origins.is_empty() || rule.allowed_origins.iter().any(|one| one == "*") {
            return;
        }
        let message = "S3 allows credentials (cookies, HTTP authentication) to every origin that \
                       a rule names; the source does not";
        let hint = "harmless where the upstream knows no cookies; else it is the price of naming \
                    origins";
        self.note(Note::new("credentials-added", span, None, message).hint(hint));
    }

    /// Notes that the source sends credentials to every origin, which S3 never does.
    pub(super) fn credentials_are_lost(&mut self, span: Range<usize>, of_the_source: &str) {
        let message = format!("{of_the_source}; S3 answers `*`, and never credentials with it");
        let hint = "name the origins that need credentials (cookies, HTTP authentication)";
        let note = Note::new("credentials-with-any-origin", span, Some("*"), message);
        self.note(note.hint(hint));
    }

    /// Notes every key of `map` that is not among `known`.
    pub(super) fn unknown_keys(&mut self, map: &Node, known: &[&str]) {
        for entry in map.entries() {
            let key = &*entry.key.text;
            if known.contains(&key) {
                continue;
            }
            let message = format!("`{key}` is not known here and has no effect");
            let note = Note::new("unknown-key", entry.key.span.clone(), Some(key), message);
            let meant = crate::cors::nearest(key, known);
            self.note(match meant {
                Some(meant) => note.hint(format!("probably `{meant}` is meant")),
                None => note,
            });
        }
    }
}
