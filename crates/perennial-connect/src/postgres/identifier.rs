//! Names in SQL: always quoted.

use crate::qualified_name::QualifiedName;

/// A name in SQL.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text in SQL.
pub(crate) fn literal(text: &str) -> String {
    // A backslash means itself only with standard_conforming_strings, so it is always escaped.
    let escaped = text.replace('\\', "\\\\").replace('\'', "''");
    format!("E'{escaped}'")
}

impl QualifiedName {
    /// As SQL has it.
    pub(crate) fn sql(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{}.{}", quote(schema), quote(&self.name)),
            None => quote(&self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qualified_name::MAX_NAME_BYTES;

    #[test]
    fn names_are_quoted() {
        assert_eq!(
            quote("a\"; drop table b; --"),
            "\"a\"\"; drop table b; --\""
        );
        assert_eq!(literal("it's \\"), "E'it''s \\\\'");
        let parse = |text: &str| text.parse::<QualifiedName>();
        assert_eq!(parse("items").unwrap().sql(), "\"items\"");
        assert_eq!(parse("shop.Items").unwrap().sql(), "\"shop\".\"Items\"");
        assert_eq!(
            parse("\"my.shop\".\"a\"\"b\"").unwrap().sql(),
            "\"my.shop\".\"a\"\"b\""
        );
    }

    proptest::proptest! {
        #[test]
        fn what_is_quoted_is_read_back(name in "[^\0]{1,20}") {
            let quoted = quote(&name);
            if name.len() <= MAX_NAME_BYTES {
                proptest::prop_assert_eq!(quoted.parse::<QualifiedName>().unwrap().name, name);
            }
        }
    }
}
