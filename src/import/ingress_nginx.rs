//! ingress-nginx: the annotations of an Ingress, or the annotations alone.
//!
//! A listed origin, in any letter case, always gets the same fields: whatever the method, the
//! browser compares it with the lists. So the methods that Fetch does not check (GET, HEAD, POST)
//! are always allowed. `*` in the list of origins stands for all of them, and is answered as `*`;
//! in `https://*.example.com` it is one label. Credentials are allowed unless disabled
//! (<https://kubernetes.github.io/ingress-nginx/user-guide/nginx-configuration/annotations/#enable-cors>;
//! kubernetes/ingress-nginx, `internal/ingress/annotations/cors/main.go` and
//! `buildCorsOriginRegex` in `internal/ingress/controller/template/template.go`).

use crate::cors::CorsRule;

use super::Unreadable;
use super::document::{Entry, Node, Value, Word};
use super::draft::{Draft, Stars};
use super::note::Note;

const PREFIX: &str = "nginx.ingress.kubernetes.io/";

const KEYS: [&str; 7] = [
    "enable-cors",
    "cors-allow-origin",
    "cors-allow-methods",
    "cors-allow-headers",
    "cors-allow-credentials",
    "cors-expose-headers",
    "cors-max-age",
];

const DEFAULT_METHODS: &str = "GET, PUT, POST, DELETE, PATCH, OPTIONS";

const DEFAULT_HEADERS: &str = "DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,\
                               Cache-Control,Content-Type,Range,Authorization";

const DEFAULT_MAX_AGE: u32 = 1_728_000;

/// Finds the CORS annotations in a document.
fn annotations(document: &Node) -> Option<&Node> {
    let nested = document
        .get("metadata")
        .and_then(|metadata| metadata.get("annotations"));
    let alone = document.get("annotations");
    let places = [nested, alone, Some(document)].into_iter().flatten();
    let has_one = |node: &&Node| {
        node.entries()
            .iter()
            .any(|entry| KEYS.contains(&name(entry)))
    };
    places.into_iter().find(has_one)
}

/// Whether a document is an Ingress, a list with one, or its annotations.
pub(super) fn is_one(document: &Node) -> bool {
    let items = document.get("items").map_or(&[][..], Node::items);
    std::iter::once(document)
        .chain(items)
        .any(|one| annotations(one).is_some())
}

fn name(entry: &Entry) -> &str {
    let key = &*entry.key.text;
    key.strip_prefix(PREFIX).unwrap_or(key)
}

pub(super) fn import(documents: &[Node], draft: &mut Draft<'_>) -> Result<(), Unreadable> {
    let mut taken: Option<CorsRule> = None;
    for document in documents {
        let items = document.get("items").map_or(&[][..], Node::items);
        for resource in std::iter::once(document).chain(items) {
            let Some(annotations) = annotations(resource) else {
                continue;
            };
            let mut own = Draft::new(draft.source, draft.options);
            let settings = Annotations(annotations);
            let Some(rule) = settings.rule(&mut own)? else {
                draft.notes.append(&mut own.notes);
                continue;
            };
            match &taken {
                None => {
                    draft.notes.append(&mut own.notes);
                    taken = Some(rule.clone());
                    settings.push(rule, draft);
                }
                Some(first) if *first == rule => {}
                Some(_) => {
                    let message = "another Ingress has different settings; used only the first";
                    let hint = "import it separately, for its own route or bucket";
                    let span = annotations.span.clone();
                    draft.note(Note::new("other-setting", span, None, message).hint(hint));
                }
            }
        }
    }
    Ok(())
}

/// The annotations of one Ingress.
struct Annotations<'d>(&'d Node);

impl Annotations<'_> {
    fn get(&self, key: &str) -> Option<Word> {
        let mut entries = self.0.entries().iter();
        let word = entries.find(|entry| name(entry) == key)?.node.word()?;
        // An empty annotation counts as unset.
        (!word.text.is_empty()).then_some(word)
    }

    /// The place of a setting, or where it would be.
    fn place(&self, key: &str) -> std::ops::Range<usize> {
        self.get(key)
            .map_or_else(|| self.0.span.clone(), |word| word.span)
    }

    /// `None` if CORS is not enabled.
    fn rule(&self, draft: &mut Draft<'_>) -> Result<Option<CorsRule>, Unreadable> {
        for entry in self.0.entries() {
            if name(entry).starts_with("cors-") && !KEYS.contains(&name(entry)) {
                let message = format!("ignored the unknown key `{}`", entry.key.text);
                let span = entry.key.span.clone();
                draft.note(Note::new("unknown-key", span, Some(name(entry)), message));
            }
            if KEYS.contains(&name(entry))
                && matches!(entry.node.value, Value::List(_) | Value::Map(_))
            {
                return Err(Unreadable::at(
                    entry.node.span.clone(),
                    "an annotation must be text",
                ));
            }
        }
        if !self.boolean("enable-cors", false, draft) {
            return Ok(None);
        }
        let origins = self.origins(draft);
        let methods = self.methods(draft);
        let headers = self.list("cors-allow-headers", DEFAULT_HEADERS, is_headers, draft);
        let exposed = self.list("cors-expose-headers", "", |_| true, draft);
        let max_age = self.get("cors-max-age");
        Ok(Some(CorsRule {
            id: None,
            allowed_origins: origins,
            allowed_methods: methods,
            allowed_headers: draft.headers(&headers),
            expose_headers: draft.exposed(&exposed),
            max_age_seconds: match max_age {
                Some(word) => draft.max_age(&word),
                None => Some(DEFAULT_MAX_AGE),
            },
            ..CorsRule::default()
        }))
    }

    /// A switch, or its default if it is missing or rejected by ingress-nginx.
    fn boolean(&self, key: &str, default: bool, draft: &mut Draft<'_>) -> bool {
        let Some(word) = self.get(key) else {
            return default;
        };
        boolean(&word.text).unwrap_or_else(|| {
            self.is_refused(key, &word, &default.to_string(), draft);
            default
        })
    }

    /// Notes that ingress-nginx uses a default instead of an invalid value.
    fn is_refused(&self, key: &str, word: &Word, default: &str, draft: &mut Draft<'_>) {
        let message = format!(
            "ingress-nginx rejects `{}` as {key}; used its default, {default}",
            word.text
        );
        let span = word.span.clone();
        draft.note(Note::new("annotation-refused", span, None, message));
    }

    fn push(&self, rule: CorsRule, draft: &mut Draft<'_>) {
        let with_credentials = self.boolean("cors-allow-credentials", true, draft);
        let any = rule.allowed_origins.iter().any(|origin| origin == "*");
        if !with_credentials {
            draft.credentials_are_added(&rule, self.place("cors-allow-credentials"));
        } else if any {
            let of_nginx = "ingress-nginx allows credentials with `*`, which browsers ignore";
            draft.credentials_are_lost(self.place("cors-allow-credentials"), of_nginx);
        }
        draft.push(rule, self.0.span.clone());
    }

    fn origins(&self, draft: &mut Draft<'_>) -> Vec<String> {
        let Some(list) = self.get("cors-allow-origin") else {
            return vec!["*".to_owned()];
        };
        let mut words = list.split(draft.source);
        if words.iter().any(|word| word.text == "*") {
            return vec!["*".to_owned()];
        }
        if words.iter().any(|word| word.text.is_empty()) {
            let message = "ingress-nginx turns an empty element into an expression that can match every origin; used only the listed origins";
            draft.note(Note::new("empty-value", list.span, None, message));
            words.retain(|word| !word.text.is_empty());
        }
        words.retain(|word| {
            let is_taken = word.text == "null" || word.text.contains("://");
            if !is_taken {
                let message = format!(
                    "ignored `{}`, which has no scheme; ingress-nginx ignores it too",
                    word.text
                );
                let hint = "add https:// if that is intended";
                let span = word.span.clone();
                let note = Note::new("origin-malformed", span, Some(&word.text), message);
                draft.note(note.hint(hint));
            }
            is_taken
        });
        // Letter case does not matter there, and browsers send lower case.
        words
            .iter_mut()
            .for_each(|word| word.text.make_ascii_lowercase());
        draft.origins(&words, Stars::OneLabel)
    }

    fn methods(&self, draft: &mut Draft<'_>) -> Vec<String> {
        let words = self.list("cors-allow-methods", DEFAULT_METHODS, is_methods, draft);
        let mut methods = draft.methods(&words);
        let place = self.place("cors-allow-methods");
        draft.add_safelisted(&mut methods, place);
        methods
    }

    /// A comma-separated list, or the default if it is missing or rejected by ingress-nginx.
    fn list(
        &self,
        key: &str,
        default: &str,
        is_valid: fn(&str) -> bool,
        draft: &mut Draft<'_>,
    ) -> Vec<Word> {
        let written = self.get(key);
        let words = match written {
            Some(word) if is_valid(&word.text) => word.split(draft.source),
            refused => {
                let span = self.place(key);
                if let Some(word) = refused {
                    self.is_refused(key, &word, default, draft);
                }
                let words = default.split(',').map(|text| Word {
                    text: text.trim().to_owned(),
                    span: span.clone(),
                });
                words.collect()
            }
        };
        words
            .into_iter()
            .filter(|word| !word.text.is_empty())
            .collect()
    }
}

/// Like Go's `strconv.ParseBool`.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

fn is_methods(text: &str) -> bool {
    let allowed = |one: char| one.is_ascii_alphabetic() || one == ',' || one.is_ascii_whitespace();
    text.chars().all(allowed)
}

fn is_headers(text: &str) -> bool {
    let allowed = |one: char| one.is_ascii_alphanumeric() || matches!(one, '-' | '_' | ',' | ' ');
    text.chars().all(allowed)
}
