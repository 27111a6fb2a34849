//! A page of ListObjectsV2.

use quick_xml::Reader;
use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::Event;

/// The objects of a page.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Listing {
    /// Key and ETag, without its quotes.
    pub(super) objects: Vec<(String, String)>,
    /// The token of the next page; `None` on the last one.
    pub(super) next: Option<String>,
}

impl Listing {
    /// Parses a page; `None` if it is incomplete.
    pub(super) fn read(document: &[u8]) -> Option<Self> {
        let mut reader = Reader::from_str(std::str::from_utf8(document).ok()?);
        let mut page = Self::default();
        let mut path: Vec<String> = Vec::new();
        let mut text = String::new();
        let (mut key, mut etag) = (None, None);
        let (mut is_truncated, mut has_root) = (None, false);
        loop {
            match reader.read_event().ok()? {
                Event::Start(tag) => {
                    path.push(tag.name().into_inner().to_owned());
                    has_root |= path == ["ListBucketResult"];
                    text.clear();
                }
                Event::End(_) => {
                    let names: Vec<&str> = path.iter().map(String::as_str).collect();
                    match names.as_slice() {
                        ["ListBucketResult", "Contents", "Key"] => key = Some(text.clone()),
                        ["ListBucketResult", "Contents", "ETag"] => etag = Some(text.clone()),
                        ["ListBucketResult", "Contents"] => {
                            let etag = etag.take()?.trim_matches('"').to_owned();
                            page.objects.push((key.take()?, etag));
                        }
                        ["ListBucketResult", "IsTruncated"] => is_truncated = Some(text == "true"),
                        ["ListBucketResult", "NextContinuationToken"] => {
                            page.next = Some(text.clone())
                        }
                        _ => {}
                    }
                    path.pop()?;
                    text.clear();
                }
                Event::Text(content) => text.push_str(&content.xml10_content()),
                Event::CData(content) => text.push_str(&content.xml10_content()),
                Event::GeneralRef(reference) => match reference.resolve_char_ref().ok()? {
                    Some(character) => text.push(character),
                    None => text.push_str(resolve_xml_entity(&reference)?),
                },
                Event::DocType(_) => return None,
                Event::Eof => break,
                Event::Empty(_) | Event::Decl(_) | Event::Comment(_) | Event::PI(_) => {}
            }
        }
        match is_truncated? {
            true => page
                .next
                .as_ref()
                .filter(|next| !next.is_empty())
                .map(|_| ())?,
            false => page.next = None,
        }
        (has_root && path.is_empty()).then_some(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_keys_etags_and_the_next_page() {
        let page = |end: &str| {
            format!(
                "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Prefix/>\
                 <Contents><Key>cors/a.xml</Key><ETag>&quot;12ab&quot;</ETag><Owner><ID>x</ID></Owner></Contents>{end}"
            )
        };
        let last = page("<IsTruncated>false</IsTruncated></ListBucketResult>");
        let last = Listing::read(last.as_bytes()).unwrap();
        assert_eq!(last.objects, [("cors/a.xml".to_owned(), "12ab".to_owned())]);
        assert_eq!(last.next, None);
        let more = page(
            "<IsTruncated>true</IsTruncated><NextContinuationToken>t=</NextContinuationToken></ListBucketResult>",
        );
        assert_eq!(
            Listing::read(more.as_bytes()).unwrap().next.as_deref(),
            Some("t=")
        );
        for torn in [
            page("</ListBucketResult>"),
            page("<IsTruncated>true</IsTruncated></ListBucketResult>"),
            page("<IsTruncated>false</IsTruncated>"),
            "<Error><IsTruncated>false</IsTruncated></Error>".to_owned(),
            String::new(),
        ] {
            assert_eq!(Listing::read(torn.as_bytes()), None, "{torn}");
        }
    }
}
