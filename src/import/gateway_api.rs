//! Gateway API: the CORS filter of an HTTPRoute.
//!
//! The methods that Fetch does not check (GET, HEAD, POST) are always allowed. `*` in an origin's
//! host stands for any characters to its left, and an origin without a port has its scheme's
//! default port. Without `allowCredentials` the lists are sent as they are, so that a header `*`
//! excludes Authorization; with it, the requested values are echoed, and `*` among the origins
//! stands for every origin by name. A response is cached for 5 seconds unless `maxAge` says
//! longer (<https://gateway-api.sigs.k8s.io/geps/gep-1767>,
//! <https://gateway-api.sigs.k8s.io/guides/http-cors>).

use crate::cors::CorsRule;

use super::Unreadable;
use super::default_port::{drop_default_port, note_any_port};
use super::document::{Node, Value, Word};
use super::draft::{Draft, Stars};
use super::note::Note;

const KEYS: [&str; 6] = [
    "allowOrigins",
    "allowMethods",
    "allowHeaders",
    "exposeHeaders",
    "allowCredentials",
    "maxAge",
];

const DEFAULT_MAX_AGE: u32 = 5;

/// Every CORS filter of a document, in order.
pub(super) fn filters(document: &Node) -> Vec<&Node> {
    let mut filters = Vec::new();
    find(document, &mut filters);
    filters
}

// A document is at most `MAX_DEPTH` deep.
fn find<'d>(node: &'d Node, filters: &mut Vec<&'d Node>) {
    match &node.value {
        Value::Map(_) if node.has("allowOrigins") || node.has("allowMethods") => filters.push(node),
        Value::Map(entries) => entries.iter().for_each(|entry| {
            let is_filter = entry.key.text == "cors" && matches!(entry.node.value, Value::Map(_));
            if is_filter {
                filters.push(&entry.node);
            } else {
                find(&entry.node, filters);
            }
        }),
        Value::List(items) => items.iter().for_each(|item| find(item, filters)),
        Value::Null | Value::Scalar(_) => {}
    }
}

pub(super) fn import(documents: &[Node], draft: &mut Draft<'_>) -> Result<(), Unreadable> {
    let mut taken: Option<CorsRule> = None;
    for filter in documents.iter().flat_map(filters) {
        let mut own = Draft::new(draft.source, draft.options);
        let rule = Filter(filter).rule(&mut own)?;
        match &taken {
            None => {
                draft.notes.append(&mut own.notes);
                taken = Some(rule.clone());
                Filter(filter).push(rule, draft)?;
            }
            Some(first) if *first == rule => {}
            Some(_) => {
                let message = "another filter has different settings; used only the first";
                let hint = "import it separately, for its own route or bucket";
                let span = filter.span.clone();
                draft.note(Note::new("other-setting", span, None, message).hint(hint));
            }
        }
    }
    Ok(())
}

struct Filter<'d>(&'d Node);

impl Filter<'_> {
    fn words(&self, key: &str) -> Result<Vec<Word>, Unreadable> {
        self.0.get(key).map_or_else(|| Ok(Vec::new()), Node::words)
    }

    fn has_credentials(&self) -> Result<bool, Unreadable> {
        match self.0.scalar("allowCredentials")? {
            None => Ok(false),
            Some(word) => word
                .text
                .parse()
                .map_err(|_| Unreadable::at(word.span, "expected true or false here")),
        }
    }

    fn place(&self, key: &str) -> std::ops::Range<usize> {
        self.0.get(key).unwrap_or(self.0).span.clone()
    }

    fn rule(&self, draft: &mut Draft<'_>) -> Result<CorsRule, Unreadable> {
        draft.unknown_keys(self.0, &KEYS);
        let mut origins = self.words("allowOrigins")?;
        origins.iter_mut().for_each(as_browsers_send);
        let methods = self.words("allowMethods")?;
        let headers = self.words("allowHeaders")?;
        let exposed = self.words("exposeHeaders")?;
        for word in &origins {
            note_any_port(word, draft);
        }
        let mut allowed_methods = draft.methods(&methods);
        draft.add_safelisted(&mut allowed_methods, self.place("allowMethods"));
        if let Some(any) = headers.iter().find(|word| word.text == "*")
            && !self.has_credentials()?
            && !headers
                .iter()
                .any(|word| word.text.eq_ignore_ascii_case("authorization"))
        {
            let message = "a `*` sent as it is excludes Authorization; S3's allows it";
            let hint = "list the allowed headers if scripts must not send it";
            let span = any.span.clone();
            let note = Note::new("header-authorization", span, Some("authorization"), message);
            draft.note(note.hint(hint));
        }
        Ok(CorsRule {
            id: None,
            allowed_origins: draft.origins(&origins, Stars::AnyRun),
            allowed_methods,
            allowed_headers: draft.headers(&headers),
            expose_headers: draft.exposed(&exposed),
            max_age_seconds: match self.0.scalar("maxAge")? {
                Some(seconds) => draft.max_age(&seconds),
                None => Some(DEFAULT_MAX_AGE),
            },
            ..CorsRule::default()
        })
    }

    fn push(&self, rule: CorsRule, draft: &mut Draft<'_>) -> Result<(), Unreadable> {
        let origins = self.place("allowOrigins");
        if !self.has_credentials()? {
            draft.credentials_are_added(&rule, origins);
            draft.push(rule, self.0.span.clone());
            return Ok(());
        }
        if rule.allowed_origins.iter().any(|origin| origin == "*") {
            let of_gateways = "with allowCredentials, a gateway answers every origin by name";
            draft.credentials_are_lost(origins, of_gateways);
        }
        draft.push_with_credentials(rule, self.0.span.clone());
        Ok(())
    }
}

/// Browsers send hosts in lower case and omit a scheme's default port.
fn as_browsers_send(word: &mut Word) {
    word.text.make_ascii_lowercase();
    drop_default_port(&mut word.text);
}
