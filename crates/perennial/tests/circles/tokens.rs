//! Rust source as tokens, without comments, numbers and lifetimes.

/// A piece of source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token<'a> {
    /// A name or keyword.
    Word(&'a str),
    /// The content of a string, as it is written.
    Text(&'a str),
    /// `::`, `..`, or a single other character.
    Mark(&'a str),
}

/// The tokens of a source.
pub fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let length = if first.is_whitespace() {
            first.len_utf8()
        } else if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            comment(rest)
        } else if first == '\'' {
            quote(rest)
        } else if first == '"' {
            let end = text_end(&rest[1..]);
            found.push(Token::Text(&rest[1..1 + end]));
            end + 2
        } else if is_word(first) {
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            end + match word {
                _ if first.is_ascii_digit() => 0,
                "b" if after.starts_with('\'') => quote(after),
                // The next round reads the text.
                "b" | "c" if after.starts_with('"') => 0,
                "r" | "br" | "cr" if raw_text(after).is_some() => {
                    let (text, length) = raw_text(after).unwrap();
                    found.push(Token::Text(text));
                    length
                }
                // A raw name: the next round reads it.
                "r" if after.starts_with('#') => 1,
                _ => {
                    found.push(Token::Word(word));
                    0
                }
            }
        } else {
            let length = if rest.starts_with("::") || rest.starts_with("..") {
                2
            } else {
                first.len_utf8()
            };
            found.push(Token::Mark(&rest[..length]));
            length
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    found
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// Length of the comment that a source begins with; comments nest.
fn comment(source: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < source.len() {
        let rest = &source.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// Length of the character or lifetime that a source begins with.
fn quote(source: &str) -> usize {
    let mut characters = source.char_indices().skip(1);
    match characters.next() {
        Some((_, '\\')) => {
            characters.next();
            characters
                .find(|(_, c)| *c == '\'')
                .map_or(source.len(), |(at, _)| at + 1)
        }
        Some(_) => match characters.next() {
            Some((at, '\'')) => at + 1,
            _ => {
                1 + source[1..]
                    .find(|c| !is_word(c))
                    .unwrap_or(source.len() - 1)
            }
        },
        None => 1,
    }
}

/// Where a text ends, from behind its opening quotation mark on.
fn text_end(source: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in source.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at,
            _ => {}
        }
    }
    source.len()
}

/// The raw text behind an `r`, and its length with everything around it.
fn raw_text(source: &str) -> Option<(&str, usize)> {
    let hashes = source.find(|c| c != '#')?;
    let content = source[hashes..].strip_prefix('"')?;
    let end = content.find(&format!("\"{}", &source[..hashes]))?;
    Some((&content[..end], 2 * hashes + end + 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_texts_and_lifetimes_are_no_names() {
        let source = r###"
            // crate::a
            /* crate::b /* nested */ crate::c */
            fn f<'a>(x: &'a str) -> char { 'x'; '\''; b'\n'; "crate::\"d"; br#"crate::"e"#; r#mod::g; 1_u8 }
        "###;
        let words: Vec<&str> = tokens(source)
            .into_iter()
            .filter_map(|token| match token {
                Token::Word(word) => Some(word),
                _ => None,
            })
            .collect();
        assert_eq!(words, ["fn", "f", "x", "str", "char", "mod", "g"]);
        assert!(tokens(source).contains(&Token::Text("crate::\"e")));
        assert!(tokens(source).contains(&Token::Mark("::")));
    }
}
