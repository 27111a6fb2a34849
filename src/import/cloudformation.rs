//! CloudFormation, and formats based on it: SAM, serverless, the CDK's output. S3's rules under
//! other names, in the properties of a bucket
//! (<https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-properties-s3-bucket-corsrule.html>).

use super::document::{Entry, Node, Value};
use super::draft::Draft;
use super::note::Note;
use super::{Unreadable, s3_json};

/// CloudFormation's names, and S3's for them.
const KEYS: [(&str, &str); 3] = [
    ("Id", "ID"),
    ("ExposedHeaders", "ExposeHeaders"),
    ("MaxAge", "MaxAgeSeconds"),
];

/// Every `CorsRules` of a document, in order.
pub(super) fn rule_lists(document: &Node) -> Vec<&Node> {
    let mut lists = Vec::new();
    find(document, &mut lists);
    lists
}

// A document is at most `MAX_DEPTH` deep.
fn find<'d>(node: &'d Node, lists: &mut Vec<&'d Node>) {
    for entry in node.entries() {
        if entry.key.text == "CorsRules" {
            lists.push(&entry.node);
        } else {
            find(&entry.node, lists);
        }
    }
    for item in node.items() {
        find(item, lists);
    }
}

pub(super) fn import(document: &Node, draft: &mut Draft<'_>) -> Result<(), Unreadable> {
    let lists = rule_lists(document);
    let Some((first, others)) = lists.split_first() else {
        let message = "no CORS rules found; expected `CorsConfiguration` with `CorsRules`";
        return Err(Unreadable::at(document.span.clone(), message));
    };
    for other in others {
        let message = "another bucket has rules too; used only those of the first";
        let hint = "import it separately, for its own bucket";
        let note = Note::new("other-setting", other.span.clone(), None, message);
        draft.note(note.hint(hint));
    }
    let parameters = document.get("Parameters");
    let Value::List(rules) = &first.value else {
        return Err(Unreadable::at(
            first.span.clone(),
            "`CorsRules` must be a list",
        ));
    };
    for rule in rules {
        if draft.is_full(rule.span.clone()) {
            break;
        }
        let mut entries = Vec::new();
        for entry in rule.entries() {
            let mut entry = entry.renamed(&KEYS);
            entry.node = resolved(&entry.node, parameters);
            entries.push(entry);
        }
        s3_json::draft_rule(&Node::map(entries, rule.span.clone()), draft)?;
    }
    Ok(())
}

/// Replaces references to parameters by their defaults; other functions become text that is not a
/// value, and are named where values are read.
fn resolved(node: &Node, parameters: Option<&Node>) -> Node {
    let span = node.span.clone();
    match &node.value {
        Value::List(items) => Node {
            value: Value::List(
                items
                    .iter()
                    .map(|item| resolved(item, parameters))
                    .collect(),
            ),
            span,
        },
        Value::Map(entries) => match &**entries {
            [Entry { key, node }] if key.text == "Ref" || key.text.starts_with("Fn::") => {
                let argument = node.word().map_or_else(String::new, |word| word.text);
                let default = (key.text == "Ref").then(|| default_of(&argument, parameters));
                default.flatten().unwrap_or_else(|| Node {
                    value: Value::Scalar(format!(
                        "!{} {argument}",
                        key.text.trim_start_matches("Fn::")
                    )),
                    span,
                })
            }
            _ => node.clone(),
        },
        Value::Scalar(text) => match text.strip_prefix("!Ref ") {
            Some(name) => default_of(name, parameters).unwrap_or_else(|| node.clone()),
            None => node.clone(),
        },
        Value::Null => node.clone(),
    }
}

fn default_of(name: &str, parameters: Option<&Node>) -> Option<Node> {
    let default = parameters?.get(name.trim())?.get("Default")?;
    matches!(default.value, Value::Scalar(_)).then(|| default.clone())
}
