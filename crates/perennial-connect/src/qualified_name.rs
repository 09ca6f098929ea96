//! Names of tables, collections and views.

use std::fmt;
use std::str::FromStr;

use crate::error::ConnectError;

/// The longest name, in bytes: that of PostgreSQL, which cuts longer ones off without an error.
pub(crate) const MAX_NAME_BYTES: usize = 63;

/// Refuses what cannot be a name.
pub(crate) fn check_identifier(what: &str, name: &str) -> Result<(), ConnectError> {
    let problem = if name.is_empty() {
        "is empty".to_owned()
    } else if name.len() > MAX_NAME_BYTES {
        format!(
            "has {} bytes; names have at most {MAX_NAME_BYTES}",
            name.len()
        )
    } else if name.contains('\0') {
        "holds a zero byte".to_owned()
    } else {
        return Ok(());
    };
    Err(ConnectError::Usage(format!("{what} {name:?} {problem}")))
}

/// The name of a table or of a view, as `TABLE` or `SCHEMA.TABLE`; a part with a dot, or with capitals in SQL, is written as it is, or in quotation marks:
/// `"my.schema".items`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QualifiedName {
    /// The schema; without one, the connection's search path decides. Collections of Qdrant have none.
    pub schema: Option<String>,
    /// The name itself.
    pub name: String,
}

impl fmt::Display for QualifiedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl FromStr for QualifiedName {
    type Err = ConnectError;

    /// # Errors
    /// [`ConnectError::Usage`] for a part that is empty or too long, and for more than two parts.
    fn from_str(text: &str) -> Result<Self, ConnectError> {
        let refused = || {
            ConnectError::Usage(format!(
                "{text:?} is not the name of a table; write TABLE or SCHEMA.TABLE, with names that hold dots in quotation marks"
            ))
        };
        let mut parts = Vec::new();
        let mut rest = text;
        loop {
            let (part, after) = match rest.strip_prefix('"') {
                Some(quoted) => quoted_part(quoted).ok_or_else(refused)?,
                None => {
                    let end = rest.find('.').unwrap_or(rest.len());
                    (rest[..end].to_owned(), &rest[end..])
                }
            };
            check_identifier("the name", &part)?;
            parts.push(part);
            rest = match after.strip_prefix('.') {
                Some(next) => next,
                None if after.is_empty() => break,
                None => return Err(refused()),
            };
        }
        let mut parts = parts.into_iter();
        match (parts.next(), parts.next(), parts.next()) {
            (Some(name), None, _) => Ok(Self { schema: None, name }),
            (Some(schema), Some(name), None) => Ok(Self {
                schema: Some(schema),
                name,
            }),
            _ => Err(refused()),
        }
    }
}

/// The content up to the closing quotation mark, and what follows it.
fn quoted_part(text: &str) -> Option<(String, &str)> {
    let mut part = String::new();
    let mut rest = text;
    loop {
        let end = rest.find('"')?;
        part.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(next) => {
                part.push('"');
                rest = next;
            }
            None => return Some((part, rest)),
        }
    }
}

impl From<&str> for QualifiedName {
    /// A name without a schema, whatever it consists of.
    fn from(name: &str) -> Self {
        Self {
            schema: None,
            name: name.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_or_two_parts() {
        let parse = |text: &str| text.parse::<QualifiedName>();
        assert_eq!(parse("items").unwrap(), QualifiedName::from("items"));
        assert_eq!(
            parse("\"my.shop\".Items").unwrap(),
            QualifiedName {
                schema: Some("my.shop".to_owned()),
                name: "Items".to_owned()
            }
        );
        for refused in ["", ".", "a.", "a.b.c", "\"a", "\"a\"b", &"x".repeat(64)] {
            assert!(parse(refused).is_err(), "{refused}");
        }
    }
}
