//! Terraform and OpenTofu: a configuration in HCL, or the output of `terraform show -json`.
//!
//! Rules are distinguished by the resource that holds them: those of `aws_s3_bucket_cors_configuration`,
//! `azurerm_storage_account`, `google_storage_bucket`, `cloudflare_r2_bucket_cors` and `b2_bucket`
//! each mean what their own system does with them
//! (<https://registry.terraform.io/providers/hashicorp/aws/latest/docs/resources/s3_bucket_cors_configuration>,
//! <https://registry.terraform.io/providers/hashicorp/azurerm/latest/docs/resources/storage_account#cors_rule>,
//! <https://registry.terraform.io/providers/hashicorp/google/latest/docs/resources/storage_bucket#nested_cors>,
//! <https://developers.cloudflare.com/api/terraform/resources/r2/subresources/buckets/subresources/cors>,
//! <https://registry.terraform.io/providers/Backblaze/b2/latest/docs/resources/bucket>).

use super::document::{Entry, Node, Value};
use super::draft::Draft;
use super::note::Note;
use super::{Unreadable, azure, b2, gcs, r2, s3_json};

/// The names of the rules in resources.
const LISTS: [&str; 4] = ["cors_rule", "cors_rules", "cors", "rules"];

/// Terraform's names, and those of the systems.
const S3: [(&str, &str); 6] = [
    ("id", "ID"),
    ("allowed_origins", "AllowedOrigins"),
    ("allowed_methods", "AllowedMethods"),
    ("allowed_headers", "AllowedHeaders"),
    ("expose_headers", "ExposeHeaders"),
    ("max_age_seconds", "MaxAgeSeconds"),
];
const AZURE: [(&str, &str); 5] = [
    ("allowed_origins", "allowedOrigins"),
    ("allowed_methods", "allowedMethods"),
    ("allowed_headers", "allowedHeaders"),
    ("exposed_headers", "exposedHeaders"),
    ("max_age_in_seconds", "maxAgeInSeconds"),
];
const GCS: [(&str, &str); 2] = [
    ("response_header", "responseHeader"),
    ("max_age_seconds", "maxAgeSeconds"),
];
const R2: [(&str, &str); 2] = [
    ("expose_headers", "exposeHeaders"),
    ("max_age_seconds", "maxAgeSeconds"),
];
const B2: [(&str, &str); 6] = [
    ("cors_rule_name", "corsRuleName"),
    ("allowed_operations", "allowedOperations"),
    ("allowed_origins", "allowedOrigins"),
    ("allowed_headers", "allowedHeaders"),
    ("expose_headers", "exposeHeaders"),
    ("max_age_seconds", "maxAgeSeconds"),
];

fn is_rule(node: &Node) -> bool {
    let has = |names: &[&str]| names.iter().any(|name| node.has(name));
    has(&[
        "allowed_origins",
        "allowed_methods",
        "allowed_operations",
        "allowed",
    ]) || (node.has("origin") && has(&["method", "response_header"]))
}

/// The rules of each resource, in order.
pub(super) fn rule_lists(document: &Node) -> Vec<Vec<&Node>> {
    let mut lists = Vec::new();
    find(document, &mut lists);
    lists
}

// A document is at most `MAX_DEPTH` deep.
fn find<'d>(node: &'d Node, lists: &mut Vec<Vec<&'d Node>>) {
    let mut rules = Vec::new();
    for entry in node.entries() {
        let node = &entry.node;
        let found: Vec<&Node> = match &node.value {
            _ if !LISTS.contains(&&*entry.key.text) => Vec::new(),
            Value::List(items) => items.iter().filter(|item| is_rule(item)).collect(),
            Value::Map(_) if is_rule(node) => vec![node],
            _ => Vec::new(),
        };
        if found.is_empty() {
            find(node, lists);
        }
        rules.extend(found);
    }
    if !rules.is_empty() {
        lists.push(rules);
    }
    for item in node.items() {
        find(item, lists);
    }
}

/// Finds rules that are generated from a collection, which only Terraform can evaluate.
fn dynamic(node: &Node) -> Option<&Node> {
    let blocks = node
        .entries()
        .iter()
        .filter(|entry| entry.key.text == "dynamic");
    let mut inside = blocks.flat_map(|entry| entry.node.entries());
    let here = inside.find(|entry| LISTS.contains(&&*entry.key.text));
    here.map(|entry| &entry.node).or_else(|| {
        let below = node.entries().iter().map(|entry| &entry.node);
        below.chain(node.items()).find_map(dynamic)
    })
}

/// Whether a document has rules in Terraform's form.
pub(super) fn is_one(document: &Node) -> bool {
    !rule_lists(document).is_empty() || dynamic(document).is_some()
}

pub(super) fn import(document: &Node, draft: &mut Draft<'_>) -> Result<(), Unreadable> {
    if let Some(dynamic) = dynamic(document) {
        let message = "only Terraform can evaluate a `dynamic` block";
        let hint = "import the result: terraform show -json | s3cors import -";
        return Err(Unreadable::at(dynamic.span.clone(), message).hint(hint));
    }
    let lists = rule_lists(document);
    let Some((first, others)) = lists.split_first() else {
        let message = "no CORS rules found; expected `cors_rule`, `cors` or `rules`";
        return Err(Unreadable::at(document.span.clone(), message));
    };
    for other in others {
        // A plan contains each resource several times.
        if other.len() == first.len() && other.iter().zip(first).all(|(a, b)| a.is_same(b)) {
            continue;
        }
        let span = other.first().map_or(0..0, |rule| rule.span.clone());
        let message = "another resource has rules too; used only those of the first";
        let hint = "import it separately, for its own bucket";
        draft.note(Note::new("other-setting", span, None, message).hint(hint));
    }
    let known = Known { document };
    let rules: Vec<Node> = first.iter().map(|rule| known.resolved(rule)).collect();
    let has = |names: &[&str]| {
        rules
            .iter()
            .any(|rule| names.iter().any(|name| rule.has(name)))
    };
    let span = document.span.clone();
    let list = |names: &[(&str, &str)]| {
        let rules = rules.iter().map(|rule| rule.with_keys(names)).collect();
        Node {
            value: Value::List(rules),
            span: span.clone(),
        }
    };
    if has(&["allowed_operations"]) {
        b2::import(&list(&B2), draft)
    } else if has(&["max_age_in_seconds", "exposed_headers"]) {
        azure::import_rules(list(&AZURE).items().iter().collect(), draft)
    } else if has(&["origin"]) {
        gcs::import(&list(&GCS), draft)
    } else if has(&["allowed"]) {
        r2::import(&list(&R2), draft)
    } else {
        s3_json::import(&list(&S3), draft)
    }
}

/// The variables and locals whose values are in the document.
struct Known<'d> {
    document: &'d Node,
}

impl Known<'_> {
    /// Replaces variables and locals by their values, if known.
    fn resolved(&self, node: &Node) -> Node {
        let value = match &node.value {
            Value::Scalar(text) => match self.value_of(text) {
                Some(known) => return known.clone(),
                None => return node.clone(),
            },
            Value::Null => return node.clone(),
            Value::List(items) => {
                Value::List(items.iter().map(|item| self.resolved(item)).collect())
            }
            Value::Map(entries) => {
                let entries = entries.iter().map(|entry| Entry {
                    key: entry.key.clone(),
                    node: self.resolved(&entry.node),
                });
                Value::Map(entries.collect())
            }
        };
        Node {
            value,
            span: node.span.clone(),
        }
    }

    /// The value of `${var.NAME}` or `${local.NAME}`.
    fn value_of(&self, text: &str) -> Option<&Node> {
        let name = text.strip_prefix("${")?.strip_suffix('}')?.trim();
        let blocks = |block: &'static str| {
            let entries = self.document.entries().iter();
            entries.filter(move |entry| entry.key.text == block)
        };
        let (mut variables, mut locals) = (blocks("variable"), blocks("locals"));
        match name.split_once('.')? {
            ("var", name) => variables.find_map(|entry| entry.node.get(name)?.get("default")),
            ("local", name) => locals.find_map(|entry| entry.node.get(name)),
            _ => None,
        }
    }
}
