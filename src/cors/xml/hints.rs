//! Guesses what an unknown name was meant to be.

use crate::cors::spelling::nearest;

pub(crate) fn meant(name: &str, known: &[&str]) -> Option<String> {
    nearest(name, known).map(|known| format!("did you mean `{known}`?"))
}

pub(crate) fn prefix_hint(name: &str) -> Option<String> {
    let (_, local) = name.split_once(':')?;
    Some(format!("write `{local}` without a prefix"))
}
