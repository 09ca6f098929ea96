//! How much a batch holds: inputs, and of texts the tokens that are computed, padding included.

use perennial_encode::{Prepared, Values};

/// What is in a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct BatchSize {
    /// Pictures and texts.
    pub(crate) inputs: usize,
    texts: usize,
    /// Tokens of the longest text: the others are padded to its length.
    longest: usize,
}

/// What a batch may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchLimits {
    pub(crate) inputs: usize,
    pub(crate) tokens: usize,
}

impl BatchSize {
    fn of(input: &Prepared) -> Self {
        match &input.values {
            Values::Tokens(tokens) => Self {
                inputs: 1,
                texts: 1,
                longest: tokens.len(),
            },
            // A text that another service splits is not padded here.
            Values::Pixels(_) | Values::Text(_) => Self {
                inputs: 1,
                ..Self::default()
            },
        }
    }

    /// Both together.
    pub(crate) fn with(self, other: Self) -> Self {
        Self {
            inputs: self.inputs + other.inputs,
            texts: self.texts + other.texts,
            longest: self.longest.max(other.longest),
        }
    }

    fn tokens(self) -> usize {
        self.texts.saturating_mul(self.longest)
    }

    pub(crate) fn is_within(self, limits: BatchLimits) -> bool {
        self.inputs <= limits.inputs && self.tokens() <= limits.tokens
    }

    /// Whether nothing more is worth waiting for.
    pub(crate) fn is_full(self, limits: BatchLimits) -> bool {
        self.inputs >= limits.inputs || self.tokens() >= limits.tokens
    }
}

/// Splits inputs, in their order, into batches within the limits. An input that exceeds them alone is a batch of its own.
pub(crate) fn batches(inputs: &[Prepared], limits: BatchLimits) -> Vec<(BatchSize, &[Prepared])> {
    let mut batches = Vec::new();
    let (mut start, mut size) = (0, BatchSize::default());
    for (index, input) in inputs.iter().enumerate() {
        let grown = size.with(BatchSize::of(input));
        if index > start && !grown.is_within(limits) {
            batches.push((size, &inputs[start..index]));
            (start, size) = (index, BatchSize::of(input));
        } else {
            size = grown;
        }
    }
    if start < inputs.len() {
        batches.push((size, &inputs[start..]));
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(tokens: usize) -> Prepared {
        Prepared {
            values: Values::Tokens(vec![7; tokens]),
        }
    }

    fn lengths(inputs: &[Prepared], limits: BatchLimits) -> Vec<usize> {
        let batches = batches(inputs, limits);
        batches
            .iter()
            .map(|(size, batch)| {
                assert_eq!(size.inputs, batch.len());
                batch.len()
            })
            .collect()
    }

    #[test]
    fn pictures_are_bounded_by_number_and_texts_by_padded_tokens() {
        let limits = BatchLimits {
            inputs: 4,
            tokens: 20,
        };
        let picture = Prepared {
            values: Values::Pixels(vec![0.0; 100]),
        };
        assert_eq!(lengths(&vec![picture.clone(); 10], limits), [4, 4, 2]);
        assert_eq!(
            lengths(&[text(5), text(5), text(5), text(5), text(5)], limits),
            [4, 1]
        );
        // Two of ten tokens; three would be padded to thirty.
        assert_eq!(lengths(&[text(1), text(10), text(1)], limits), [2, 1]);
        assert_eq!(lengths(&[text(50), text(1)], limits), [1, 1]);
        assert_eq!(lengths(&[picture, text(20), text(1)], limits), [2, 1]);
        assert!(lengths(&[], limits).is_empty());
    }
}
