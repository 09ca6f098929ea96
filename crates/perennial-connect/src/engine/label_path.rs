//! Where the label of a row lies: a field, or a field within fields.

/// The names of a path such as `metadata.category`, from the outermost. A name that holds a dot stands between quotation marks: `"a.b".c`.
///
/// Nothing for a path with an empty name, or with a quotation mark that does not end before a dot.
pub(crate) fn segments(path: &str) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut rest = path;
    loop {
        let (name, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => rest.split_at(rest.find('.').unwrap_or(rest.len())),
        };
        if name.is_empty() || name.contains('"') {
            return None;
        }
        names.push(name.to_owned());
        match after.strip_prefix('.') {
            Some(next) => rest = next,
            None if after.is_empty() => return Some(names),
            None => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::segments;

    #[test]
    fn dots_lead_into_fields_unless_they_are_quoted() {
        for (path, wanted) in [
            ("title", Some(vec!["title"])),
            ("metadata.category", Some(vec!["metadata", "category"])),
            ("\"a.b\".c.\"d\"", Some(vec!["a.b", "c", "d"])),
            ("", None),
            ("a.", None),
            (".a", None),
            ("a..b", None),
            ("\"a", None),
            ("\"a\"b", None),
            ("a\"b\"", None),
        ] {
            let found = segments(path);
            let wanted = wanted.map(|names| names.into_iter().map(str::to_owned).collect());
            assert_eq!(found, wanted, "{path}");
        }
    }
}
