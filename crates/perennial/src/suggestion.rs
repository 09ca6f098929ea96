//! "Did you mean": the known name nearest to a mistyped one.

/// The least similarity that counts as a typing error.
const LEAST_SIMILARITY: f64 = 0.8;
/// Longer names get no suggestion: the comparison is quadratic.
const LONGEST: usize = 64;

/// The most similar known name, if one is similar enough.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > LONGEST {
        return None;
    }
    let similarity = |known: &str| strsim::jaro_winkler(name, known);
    known
        .into_iter()
        .map(|known| (similarity(known), known))
        .filter(|&(similarity, _)| similarity >= LEAST_SIMILARITY)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}

/// The tail of a message about an unknown name: the nearest known one, or all of them.
pub fn describe(name: &str, known: &[&str]) -> String {
    match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => "there are none yet".to_owned(),
        None => format!("known: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        let known = ["epochs", "batch_size", "learning_rate"];
        assert_eq!(nearest("epoch", known), Some("epochs"));
        assert_eq!(nearest("learnign_rate", known), Some("learning_rate"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(
            describe("colour", &known),
            "known: epochs, batch_size, learning_rate"
        );
    }
}
