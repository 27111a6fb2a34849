//! Properties of importing other systems' settings, for any input.

use s3cors::cors::{Options, check_document};
use s3cors::import::{CODES, Dialect};

/// Settings, imported as each dialect and with detection: parsing never panics, every place lies
/// within them, every note is a known one, and S3 accepts the result.
pub fn import(bytes: &[u8]) {
    let within = |span: &std::ops::Range<usize>| {
        assert!(bytes.get(span.clone()).is_some(), "{span:?}");
        if let Ok(text) = std::str::from_utf8(bytes) {
            assert!(
                text.get(span.clone()).is_some(),
                "{span:?} cuts a character"
            );
        }
    };
    let dialects = Dialect::ALL.into_iter().map(Some);
    for from in dialects.chain([None]) {
        let imported = match s3cors::import::import(bytes, from, &Options::default()) {
            Ok(imported) => imported,
            Err(error) => {
                error.span.iter().for_each(within);
                assert!(!error.message.is_empty());
                continue;
            }
        };
        assert!(from.is_none_or(|from| from == imported.dialect));
        for note in &imported.notes {
            within(&note.span);
            assert!(CODES.contains(&(note.code, note.effect)), "{note:?}");
        }
        if !imported.configuration.rules.is_empty() {
            let xml = imported.configuration.to_xml();
            let checked = check_document(xml.as_bytes(), Options::default());
            assert_eq!(checked.configuration, Some(imported.configuration));
        }
    }
}
