//! Azure Storage: a service's properties in XML, the same in ARM's JSON, and the output of `az
//! storage cors list`.
//!
//! The first rule with the request's origin and method decides, even if it then refuses a header:
//! later rules are not considered. Origins are complete, use `*` for a subdomain, or are the lone
//! `*`; headers are complete, a prefix with `*`, or the lone `*`; credentials are allowed to
//! every listed origin
//! (<https://learn.microsoft.com/en-us/rest/api/storageservices/cross-origin-resource-sharing--cors--support-for-the-azure-storage-services>,
//! <https://learn.microsoft.com/en-us/rest/api/storageservices/preflight-blob-request>).

use crate::cors::{CorsRule, Wildcard};

use super::Unreadable;
use super::document::{Node, Value, Word};
use super::draft::{Draft, Stars};
use super::note::Note;

/// A rule's elements, in lower case: JSON starts them with a lower-case letter, XML with a
/// capital.
const KEYS: [&str; 7] = [
    "allowedorigins",
    "allowedmethods",
    "allowedheaders",
    "exposedheaders",
    "maxageinseconds",
    // Added by `az storage cors list`.
    "service",
    "$schema",
];

/// A rule, as written.
struct AzureRule {
    origins: Vec<Word>,
    methods: Vec<Word>,
    headers: Vec<Word>,
}

/// Keys that only other systems' rules have.
const FOREIGN: [&str; 7] = [
    "ID",
    "Id",
    "MaxAge",
    "MaxAgeSeconds",
    "ExposeHeaders",
    "allowedOperations",
    "corsRuleName",
];

pub(super) fn is_rule(node: &Node) -> bool {
    let keys = |key: &str| get(node, key).is_some();
    keys("allowedorigins")
        && (keys("maxageinseconds") || keys("exposedheaders") || keys("service"))
        && !FOREIGN.iter().any(|key| node.has(key))
}

/// Finds the rules in a document.
pub(super) fn rules(document: &Node) -> Option<Vec<&Node>> {
    if let Value::List(items) = &document.value {
        let are_rules = !items.is_empty() && items.iter().all(is_rule);
        return are_rules.then(|| items.iter().collect());
    }
    for entry in document.entries() {
        match &*entry.key.text {
            // In XML, each rule has an element.
            "CorsRule" => {
                let entries = document.entries().iter();
                let rules = entries.filter(|entry| entry.key.text == "CorsRule");
                return Some(rules.map(|entry| &entry.node).collect());
            }
            "corsRules" if entry.node.items().iter().all(is_rule) => {
                return Some(entry.node.items().iter().collect());
            }
            "StorageServiceProperties" | "Cors" | "cors" | "properties" => {
                if let Some(rules) = rules(&entry.node) {
                    return Some(rules);
                }
                // A service without rules.
                if entry.key.text == "Cors" {
                    return Some(Vec::new());
                }
            }
            _ => {}
        }
    }
    None
}

pub(super) fn import(document: &Node, draft: &mut Draft<'_>) -> Result<(), Unreadable> {
    let Some(rules) = rules(document) else {
        let message = "no CORS rules found; expected `Cors` with `CorsRule`, or `corsRules`";
        return Err(Unreadable::at(document.span.clone(), message));
    };
    import_rules(rules, draft)
}

pub(super) fn import_rules(rules: Vec<&Node>, draft: &mut Draft<'_>) -> Result<(), Unreadable> {
    let mut earlier: Vec<AzureRule> = Vec::new();
    for node in rules {
        if draft.is_full(node.span.clone()) {
            break;
        }
        draft_rule(node, &mut earlier, draft)?;
    }
    Ok(())
}

fn draft_rule(
    node: &Node,
    earlier: &mut Vec<AzureRule>,
    draft: &mut Draft<'_>,
) -> Result<(), Unreadable> {
    if !matches!(node.value, Value::Map(_)) {
        return Err(Unreadable::at(
            node.span.clone(),
            "a rule must have elements",
        ));
    }
    for entry in node.entries() {
        let key = &*entry.key.text;
        if !KEYS.contains(&&*key.to_ascii_lowercase()) {
            let message = format!("ignored the unknown key `{key}`");
            let span = entry.key.span.clone();
            draft.note(Note::new("unknown-key", span, Some(key), message));
        }
    }
    let source = draft.source;
    let list = |key| list(node, key, source);
    let exposed = list("exposedheaders")?;
    let rule = AzureRule {
        origins: list("allowedorigins")?,
        methods: list("allowedmethods")?,
        headers: list("allowedheaders")?,
    };
    let whole = CorsRule {
        id: None,
        allowed_origins: draft.origins(&rule.origins, Stars::AnyRun),
        allowed_methods: draft.methods(&rule.methods),
        allowed_headers: draft.headers(&rule.headers),
        expose_headers: draft.exposed(&exposed),
        max_age_seconds: get(node, "maxageinseconds")
            .map_or(Ok(None), Node::only_word)?
            .and_then(|seconds| draft.max_age(&seconds)),
        ..CorsRule::default()
    };
    // This rule never decides for origins of an earlier rule.
    let mut parts: Vec<CorsRule> = Vec::new();
    let mut is_whole = true;
    let any = whole.allowed_origins.iter().find(|origin| *origin == "*");
    // `*` includes the origins next to it.
    let origins = any.map_or(&*whole.allowed_origins, std::slice::from_ref);
    for origin in origins {
        let mut methods = whole.allowed_methods.clone();
        methods.retain(|method| !earlier.iter().any(|before| before.answers(origin, method)));
        is_whole &= methods.len() == whole.allowed_methods.len();
        match parts
            .iter_mut()
            .find(|part| part.allowed_methods == methods)
        {
            Some(part) => part.allowed_origins.push(origin.clone()),
            None => parts.push(CorsRule {
                allowed_origins: vec![origin.clone()],
                allowed_methods: methods,
                ..whole.clone()
            }),
        }
    }
    for before in &*earlier {
        before.may_be_passed_over(&rule, draft);
    }
    if is_whole {
        draft.push(whole, node.span.clone());
    } else {
        parts.retain(|part| !part.allowed_methods.is_empty());
        for part in parts {
            draft.push(part, node.span.clone());
        }
    }
    earlier.push(rule);
    Ok(())
}

impl AzureRule {
    /// Whether this rule decides for `origin`, or for every origin if that is `*`.
    fn answers(&self, origin: &str, method: &str) -> bool {
        let mut origins = self.origins.iter();
        let named = origins.any(|word| covers(&word.text, origin));
        let mut methods = self.methods.iter();
        named && methods.any(|word| word.text.eq_ignore_ascii_case(method))
    }

    /// Notes the origins that S3 would match with `later`, a rule for a pattern of origins, if
    /// this rule refuses their headers.
    fn may_be_passed_over(&self, later: &Self, draft: &mut Draft<'_>) {
        let patterns = |words: &[Word]| -> Vec<Wildcard> {
            let texts = words.iter().map(|word| word.text.to_ascii_lowercase());
            texts
                .filter_map(|text| Wildcard::parse(&text).ok())
                .collect()
        };
        let (mine, theirs) = (patterns(&self.headers), patterns(&later.headers));
        let all_taken = theirs
            .iter()
            .all(|name| mine.iter().any(|pattern| pattern.covers(name)));
        let mut methods = self.methods.iter();
        let shared = methods.any(|word| later.methods.iter().any(|other| other.text == word.text));
        if all_taken || !shared || self.origins.iter().any(|word| word.text == "*") {
            return;
        }
        for origin in &self.origins {
            let mut wider = later.origins.iter();
            if !wider.any(|word| word.text != origin.text && covers(&word.text, &origin.text)) {
                continue;
            }
            let message = format!(
                "headers that this rule refuses for `{}` are allowed by a later rule in S3",
                origin.text
            );
            let hint = "in S3, the first rule that allows origin, method and headers decides; in Azure, the first with the origin and method";
            let span = origin.span.clone();
            draft.note(Note::new("next-rule-asked", span, Some(&origin.text), message).hint(hint));
        }
    }
}

/// Whether an origin, or everything that a pattern matches, is covered by another.
fn covers(pattern: &str, origin: &str) -> bool {
    let patterns = (Wildcard::parse(pattern), Wildcard::parse(origin));
    matches!(patterns, (Ok(pattern), Ok(origin)) if pattern.covers(&origin))
}

fn get<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    let mut entries = node.entries().iter();
    let entry = entries.find(|entry| entry.key.text.eq_ignore_ascii_case(key))?;
    Some(&entry.node)
}

/// A list: comma-separated in XML and from `az`, a list in ARM's JSON.
fn list(node: &Node, key: &str, source: &str) -> Result<Vec<Word>, Unreadable> {
    let Some(list) = get(node, key) else {
        return Ok(Vec::new());
    };
    let words = list.words()?;
    let parts = words.iter().flat_map(|word| word.split(source));
    Ok(parts.filter(|part| !part.text.is_empty()).collect())
}
