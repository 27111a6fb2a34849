//! No input reaches the terminal as a control or bidirectional character.

use std::fs;

use proptest::prelude::*;

use super::support::binary::{Folder, run};

/// Text with characters that terminals obey or hide, among harmless ones.
fn hostile() -> impl Strategy<Value = String> {
    let pieces = [
        "a",
        "https://",
        ".example",
        ":",
        "*",
        "PUT",
        "x-a",
        ", ",
        "/",
        "<",
        "&",
        "\"",
        "'",
        "é",
        " ",
        "\u{1b}[31m",
        "\u{1b}]0;x\u{7}",
        "\u{9b}1m",
        "\u{7f}",
        "\r",
        "\n",
        "\t",
        "\u{8}",
        "\u{202e}",
        "\u{2066}",
        "\u{2069}",
        "\u{61c}",
        "\u{200f}",
        "\u{2028}",
        "\u{feff}",
        "\u{ad}",
        "\u{e0041}",
    ];
    proptest::collection::vec(proptest::sample::select(pieces.to_vec()), 0..7)
        .prop_map(|pieces| pieces.concat())
}

/// The first character of an output that must not be there.
fn obeyed(output: &str) -> Option<char> {
    output.chars().find(|one| {
        (one.is_control() && *one != '\n')
            || matches!(*one, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn check_and_explain_print_no_control_or_bidirectional_characters(
        name in hostile(), host in hostile(), origin in hostile(), method in hostile(),
        header in hostile(), element in hostile(), raw in any::<bool>(),
    ) {
        let folder = Folder::new("terminal");
        let escaped = element.replace('&', "&amp;").replace('<', "&lt;");
        let element = if raw { &element } else { &escaped };
        let policy = format!(
            "<CORSConfiguration><CORSRule><ID>{element}</ID><AllowedOrigin>{element}</AllowedOrigin>\
             <AllowedMethod>{}</AllowedMethod><AllowedHeader>{element}</AllowedHeader></CORSRule>\
             </CORSConfiguration>",
            if raw { element } else { "GET" }
        );
        let name = format!("{}.xml", name.replace('/', "_"));
        fs::write(folder.path(&name), policy).unwrap();
        let cors = folder.path(&name).display().to_string();
        let quoted = |text: &str| match raw {
            true => format!("\"{text}\""),
            false => serde_json::to_string(text).unwrap(),
        };
        let config = format!(
            "[[route]]\nhost = [{0}, \"*\"]\nname = {0}\nupstream = \"http://127.0.0.1:9\"\ncors = {1}\n",
            quoted(&host),
            quoted(&name)
        );
        let config = folder.write("s3cors.toml", &config);
        let request = [
            format!("--origin={origin}"),
            format!("--method={method}"),
            format!("--header={header}"),
            format!("--read={header}"),
        ];
        let with = |first: &[&str]| {
            let request = request.iter().map(String::as_str);
            first.iter().copied().chain(request).map(str::to_owned).collect::<Vec<_>>()
        };
        let url = format!("--url=http://{host}/{element}");
        let missing = format!("{cors}x");
        for arguments in [
            vec!["check".to_owned(), cors.clone()],
            vec!["check".to_owned(), missing.clone()],
            vec!["check".to_owned(), "--config".to_owned(), config.clone()],
            with(&["explain", "--cors", &cors]),
            with(&["explain", "--cors", &missing]),
            with(&["explain", "--config", &config, &url]),
        ] {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let (_, output, errors) = run(&arguments);
            for text in [&output, &errors] {
                prop_assert_eq!(obeyed(text), None, "{:?}: {:?}", arguments, text);
            }
        }
    }
}
