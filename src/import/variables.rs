//! Text with variables of shells, templates or infrastructure as code.

/// A text whose variables are resolved as far as possible.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Filled {
    /// The text has no variables.
    Plain,
    /// All its variables have defaults: this is the text with them.
    Default(String),
    /// It has a variable whose value is unknown.
    Unknown,
}

/// The marks around variables.
const MARKS: [(&str, &str); 6] = [
    ("${", "}"),
    ("{{", "}}"),
    ("$(", ")"),
    ("%{", "}"),
    ("<%", "%>"),
    ("<", ">"),
];

/// CloudFormation's functions, in YAML's short form.
const FUNCTIONS: [&str; 12] = [
    "!Ref ",
    "!Sub ",
    "!GetAtt ",
    "!Join ",
    "!ImportValue ",
    "!FindInMap ",
    "!Select ",
    "!Split ",
    "!If ",
    "!Base64 ",
    "!Cidr ",
    "!Transform ",
];

impl Filled {
    /// Resolves a text.
    pub(super) fn of(text: &str) -> Self {
        if FUNCTIONS.iter().any(|name| text.starts_with(name)) {
            // `!Sub` without a variable is plain text.
            return match text.strip_prefix("!Sub ") {
                Some(rest) if !rest.contains("${") => Self::Default(rest.to_owned()),
                _ => Self::Unknown,
            };
        }
        let mut rest = text;
        let mut filled = String::new();
        let mut has_any = false;
        while let Some((at, open, close)) = first_mark(rest) {
            has_any = true;
            let (before, from) = rest.split_at(at);
            let inside = from.get(open.len()..).unwrap_or_default();
            let Some((inside, after)) = inside.split_once(close) else {
                return Self::Unknown;
            };
            let Some(default) = (open == "${").then(|| shell_default(inside)).flatten() else {
                return Self::Unknown;
            };
            filled += before;
            filled += default;
            rest = after;
        }
        let is_shell = rest.starts_with('$')
            && rest
                .chars()
                .nth(1)
                .is_some_and(|next| next.is_ascii_alphabetic() || next == '_');
        if is_shell {
            return Self::Unknown;
        }
        if has_any {
            Self::Default(filled + rest)
        } else {
            Self::Plain
        }
    }
}

fn first_mark(text: &str) -> Option<(usize, &'static str, &'static str)> {
    MARKS
        .iter()
        .filter_map(|(open, close)| Some((text.find(open)?, *open, *close)))
        .min_by_key(|(at, open, _)| (*at, std::cmp::Reverse(open.len())))
}

/// The default in `${NAME:-default}` and `${NAME-default}`.
fn shell_default(inside: &str) -> Option<&str> {
    let name_end = inside.find(|one: char| !(one.is_ascii_alphanumeric() || one == '_'))?;
    let rest = inside.get(name_end..)?;
    let default = rest.strip_prefix(":-").or_else(|| rest.strip_prefix('-'))?;
    (!default.contains(['$', '{'])).then_some(default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_resolved_to_its_default_or_unknown() {
        for (text, expected) in [
            ("https://a.test", Filled::Plain),
            ("*", Filled::Plain),
            (
                "!Sub https://a.test",
                Filled::Default("https://a.test".into()),
            ),
            ("${APP:-*}", Filled::Default("*".into())),
            (
                "https://${HOST:-a.test}:${PORT-8443}",
                Filled::Default("https://a.test:8443".into()),
            ),
            ("${APP}", Filled::Unknown),
            ("${APP:-${OTHER}}", Filled::Unknown),
            ("${var.origin}", Filled::Unknown),
            ("https://{{ host }}", Filled::Unknown),
            ("{{ .Values.origin }}", Filled::Unknown),
            ("!Ref Origin", Filled::Unknown),
            ("!Sub https://${Domain}", Filled::Unknown),
            ("https://<your-domain>", Filled::Unknown),
            ("<ORIGIN>", Filled::Unknown),
            ("$APP", Filled::Unknown),
            ("$(APP)", Filled::Unknown),
            ("${APP", Filled::Unknown),
        ] {
            assert_eq!(Filled::of(text), expected, "{text}");
        }
    }
}
