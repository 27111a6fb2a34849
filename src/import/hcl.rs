//! Parses HCL: attributes and blocks become entries of a map, the labels of a block maps within
//! it, as in Terraform's JSON syntax.

use hcl_edit::Span;
use hcl_edit::expr::{Expression, ObjectKey};
use hcl_edit::parser::parse_body;
use hcl_edit::structure::{Body, Structure};

use super::Unreadable;
use super::document::{Entry, MAX_DEPTH, Node, Value, Word};

/// Whether a text has a line that only HCL has: a name, labels, and an opening brace.
pub(super) fn is_one(text: &str) -> bool {
    text.lines().any(|line| {
        let Some(head) = line.trim_end().strip_suffix('{') else {
            return false;
        };
        let head = head.trim();
        let head = head.strip_suffix('=').unwrap_or(head);
        let name = |one: char| one.is_ascii_alphanumeric() || matches!(one, '_' | '-' | '"' | ' ');
        head.starts_with(|one: char| one.is_ascii_lowercase()) && head.chars().all(name)
    })
}

/// The whole text as one map.
///
/// # Errors
///
/// The first syntax error, or values nested too deeply.
pub(super) fn read(text: &str) -> Result<Node, Unreadable> {
    if let Some(at) = too_deep(text) {
        return Err(Unreadable::at(at..at + 1, "values are nested too deeply"));
    }
    let body = parse_body(text).map_err(|error| {
        let at = error.location().offset().min(text.len());
        let first = error
            .message()
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned();
        Unreadable::at(at..at, format!("invalid HCL: {first}"))
    })?;
    Ok(of_body(&body, text, 0..text.len()))
}

/// Where brackets or operators are nested too deeply for a recursive parser.
fn too_deep(text: &str) -> Option<usize> {
    let (mut depth, mut signs) = (0_usize, 0_usize);
    text.bytes().enumerate().find_map(|(at, byte)| {
        match byte {
            b'{' | b'[' | b'(' => depth += 1,
            b'}' | b']' | b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        match byte {
            b'!' | b'-' | b'?' => signs += 1,
            b'\n' => signs = 0,
            _ => {}
        }
        (depth > MAX_DEPTH || signs > 16 * MAX_DEPTH).then_some(at)
    })
}

fn of_body(body: &Body, text: &str, span: std::ops::Range<usize>) -> Node {
    let entries = body.iter().map(|structure| match structure {
        Structure::Attribute(attribute) => Entry {
            key: Word {
                text: attribute.key.to_string().trim().to_owned(),
                span: attribute.key.span().unwrap_or(0..0),
            },
            node: of_expression(&attribute.value, text),
        },
        Structure::Block(block) => {
            let span = block.span().unwrap_or(0..0);
            let inside = of_body(&block.body, text, span.clone());
            let labels = block.labels.iter().rev();
            let node = labels.fold(inside, |inside, label| {
                let key = Word {
                    text: label.as_str().to_owned(),
                    span: span.clone(),
                };
                Node::map(vec![Entry { key, node: inside }], span.clone())
            });
            Entry {
                key: Word {
                    text: block.ident.to_string().trim().to_owned(),
                    span: block.ident.span().unwrap_or(0..0),
                },
                node,
            }
        }
    });
    Node::map(entries.collect(), span)
}

fn of_expression(expression: &Expression, text: &str) -> Node {
    let span = expression.span().unwrap_or(0..0);
    let written = || text.get(span.clone()).unwrap_or_default();
    let value = match expression {
        Expression::Null(_) => Value::Null,
        Expression::Bool(value) => Value::Scalar(value.as_ref().to_string()),
        Expression::Number(value) => Value::Scalar(value.value().to_string()),
        Expression::String(value) => Value::Scalar(value.as_ref().clone()),
        Expression::Array(items) => {
            Value::List(items.iter().map(|item| of_expression(item, text)).collect())
        }
        Expression::Object(object) => {
            let entries = object.iter().map(|(key, value)| Entry {
                key: Word {
                    text: match key {
                        ObjectKey::Ident(name) => name.to_string().trim().to_owned(),
                        ObjectKey::Expression(Expression::String(name)) => name.as_ref().clone(),
                        ObjectKey::Expression(other) => other.to_string().trim().to_owned(),
                    },
                    span: span.clone(),
                },
                node: of_expression(value.expr(), text),
            });
            Value::Map(entries.collect())
        }
        Expression::StringTemplate(_) => Value::Scalar(written().trim_matches('"').to_owned()),
        Expression::Parenthesis(inner) => return of_expression(inner.inner(), text),
        // An expression that only Terraform can evaluate.
        _ => Value::Scalar(format!("${{{}}}", written().trim())),
    };
    Node { value, span }
}
