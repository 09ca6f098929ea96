//! What holds for every page.

/// Every element that is opened is closed in the right order.
pub fn assert_balanced(page: &str, name: &str) {
    let mut open = Vec::new();
    for part in page.split('<').skip(1) {
        let tag = part.split('>').next().unwrap();
        let element = tag
            .trim_start_matches('/')
            .split([' ', '/'])
            .next()
            .unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(element), "{name}: </{element}>");
        } else if !matches!(element, "!DOCTYPE" | "meta" | "wbr" | "img") {
            open.push(element);
        }
    }
    assert!(open.is_empty(), "{name}: {open:?}");
}

/// Nothing is loaded from elsewhere, nothing runs, and no number is missing.
pub fn assert_self_contained(page: &str, name: &str) {
    for forbidden in [
        "http://", "https://", "<script", "<link", "url(", "@import", "NaN", "inf,",
    ] {
        assert!(!page.contains(forbidden), "{name} contains {forbidden}");
    }
}
