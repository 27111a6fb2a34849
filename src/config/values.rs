//! Values of keys: strings, lists of strings, and choices of a few words.

use toml::Spanned;
use toml::de::DeValue;

use crate::cors;

use super::diagnostic::Diagnostic;
use super::file::Reader;

pub(crate) fn chosen<T: Copy>(
    key: &str,
    value: &Spanned<&str>,
    choices: &[(&str, T)],
    reader: &mut Reader<'_>,
) -> Option<Spanned<T>> {
    let chosen = choices.iter().find(|(name, _)| name == value.get_ref());
    if let Some((_, choice)) = chosen {
        return Some(Spanned::new(value.span(), *choice));
    }
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    let mut message = format!("`{key}` cannot be \"{}\"", value.get_ref());
    if let Some(newer) = &reader.newer {
        message = format!("{message}: {newer}");
    }
    let mut diagnostic =
        Diagnostic::error("invalid-value", message).detail(format!("one of {}", quoted(&names)));
    if let Some(name) = cors::nearest(value.get_ref(), &names) {
        diagnostic = diagnostic.help(format!("did you mean \"{name}\"?"));
    }
    reader.push(diagnostic, value.span());
    None
}

pub(crate) fn string<'t>(
    key: &str,
    expected: &str,
    value: &'t Spanned<DeValue<'t>>,
    reader: &mut Reader<'_>,
) -> Option<Spanned<&'t str>> {
    let Some(text) = value.get_ref().as_str() else {
        reader.wrong_type(key, expected, value);
        return None;
    };
    Some(Spanned::new(value.span(), text))
}

pub(super) fn strings<'t>(
    key: &str,
    value: &'t Spanned<DeValue<'t>>,
    reader: &mut Reader<'_>,
) -> Option<Spanned<Vec<Spanned<&'t str>>>> {
    const EXPECTED: &str = "a string or an array of strings";
    let strings = match value.get_ref() {
        DeValue::Array(array) => array
            .iter()
            .filter_map(|value| string(key, EXPECTED, value, reader))
            .collect(),
        _ => vec![string(key, EXPECTED, value, reader)?],
    };
    Some(Spanned::new(value.span(), strings))
}

pub(super) fn names<T>(choices: &[(&str, T)]) -> Vec<Box<str>> {
    choices.iter().map(|(name, _)| (*name).into()).collect()
}

pub(crate) fn quoted(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    quoted.join(", ")
}
