//! Texts to token ids, as the tokenizer of an encoder from outside splits them.
//!
//! The tokenizer is a model hub's `tokenizer.json`, read by the crate `tokenizers` (0.23, with the regular expressions of `fancy-regex`, so no C
//! code; 1.0 was a release candidate when this was written). Padding and truncation in the file are ignored: how long a text may be stands in
//! `model.toml`, and batches are padded where they are made.

use std::panic::{AssertUnwindSafe, catch_unwind};

use perennial_core::TextTower;
use thiserror::Error;
use tokenizers::{Tokenizer, TruncationDirection, TruncationParams, TruncationStrategy};

use crate::encoder::PrepareError;
use crate::input::InputType;

/// The largest tokenizer that is read. The largest known ones (a vocabulary of 256,000) have 34 MB.
pub(crate) const MAX_TOKENIZER_BYTES: u64 = 128 << 20;
/// Bytes above which a text is refused.
const MAX_TEXT_BYTES: usize = 16 << 20;
/// Bytes of a text that are looked at first, for every token that an encoder takes.
const BYTES_PER_TOKEN: usize = 64;
/// Bytes of a text that are looked at in the end, for every token that an encoder takes. Splitting costs about a microsecond a byte, so that a
/// text of one endless word must not be walked to its end.
const MOST_BYTES_PER_TOKEN: usize = 1024;
/// The fewest tokens that a text may be cut to, special ones included.
const MIN_TOKENS: usize = 4;

/// Why a tokenizer cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The file is no tokenizer, or one that is not supported.
    #[error(
        "{file} is no tokenizer that can be used: {problem}; give the tokenizer.json that belongs to the encoder"
    )]
    Unusable {
        /// The file.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// It makes ids for which the encoder has no vector.
    #[error(
        "{file} has token ids up to {largest}, and the encoder only vectors for {rows} tokens: it belongs to another encoder; give the tokenizer.json that belongs to this one"
    )]
    OtherEncoder {
        /// The file.
        file: String,
        /// The largest id.
        largest: u32,
        /// Rows of the encoder's table.
        rows: u64,
    },
    /// So few tokens that hardly any text is left.
    #[error("a text cannot be cut to {0} tokens; say at least {MIN_TOKENS}")]
    MaxTokens(usize),
}

/// Splits texts into tokens.
pub(crate) struct TextPreparation {
    tokenizer: Tokenizer,
    max_tokens: usize,
    query_prefix: String,
    document_prefix: String,
    special_tokens: bool,
    largest: u32,
}

impl TextPreparation {
    /// Reads a tokenizer from its bytes. `special_tokens`: whether it adds its marks (such as `[CLS]`); a table of token vectors takes none.
    pub(crate) fn read(
        content: &[u8],
        tower: &TextTower,
        special_tokens: bool,
    ) -> Result<Self, TokenizerError> {
        let unusable = |problem: String| TokenizerError::Unusable {
            file: tower.tokenizer.clone(),
            problem,
        };
        if tower.max_tokens < MIN_TOKENS {
            return Err(TokenizerError::MaxTokens(tower.max_tokens));
        }
        let read = catch_unwind(|| Tokenizer::from_bytes(content));
        let mut tokenizer = match read {
            Ok(Ok(tokenizer)) => tokenizer,
            Ok(Err(error)) => return Err(unusable(shortened(&error.to_string()))),
            Err(_) => return Err(unusable("reading it failed".to_owned())),
        };
        tokenizer.with_padding(None);
        let truncation = TruncationParams {
            direction: TruncationDirection::Right,
            max_length: tower.max_tokens,
            strategy: TruncationStrategy::LongestFirst,
            stride: 0,
        };
        // The number of marks that it adds is subtracted from the length, which must not pass below 0.
        let marks = catch_unwind(AssertUnwindSafe(|| {
            tokenizer
                .encode_fast("", special_tokens)
                .map(|marks| marks.len())
        }));
        match marks {
            Ok(Ok(marks)) if marks + 1 < tower.max_tokens => {}
            Ok(Ok(_)) => return Err(TokenizerError::MaxTokens(tower.max_tokens)),
            _ => return Err(unusable("it fails on the empty text".to_owned())),
        }
        tokenizer
            .with_truncation(Some(truncation))
            .map_err(|error| unusable(error.to_string()))?;
        let largest = tokenizer.get_vocab(true).values().copied().max();
        let largest = largest.ok_or_else(|| unusable("its vocabulary is empty".to_owned()))?;
        Ok(Self {
            tokenizer,
            max_tokens: tower.max_tokens,
            query_prefix: tower.query_prefix.clone(),
            document_prefix: tower.document_prefix.clone(),
            special_tokens,
            largest,
        })
    }

    /// Refuses a tokenizer that makes ids beyond the `rows` of the encoder's table.
    pub(crate) fn check_rows(&self, file: &str, rows: u64) -> Result<(), TokenizerError> {
        if u64::from(self.largest) < rows {
            return Ok(());
        }
        Err(TokenizerError::OtherEncoder {
            file: file.to_owned(),
            largest: self.largest,
            rows,
        })
    }

    /// The largest id that it makes.
    pub(crate) fn largest(&self) -> u32 {
        self.largest
    }

    /// Whether letters count the same in upper and lower case, tried with words and every letter of the alphabet.
    pub(crate) fn ignores_case(&self) -> bool {
        const LETTERS: &str =
            "The Quick BROWN Fox A B C D E F G H I J K L M N O P Q R S T U V W X Y Z";
        // As many pieces as the shortest limit leaves room for.
        LETTERS.split(' ').all(|word| {
            let tokens = |word: &str| self.tokens(word, InputType::Document).ok();
            tokens(word) == tokens(&word.to_lowercase())
        })
    }

    /// The id of a token, if it has it.
    pub(crate) fn id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    /// The id that fills texts up to the longest of a batch. Where the graph knows the mask, any id does.
    pub(crate) fn padding(&self) -> u32 {
        ["[PAD]", "<pad>", "<|endoftext|>"]
            .iter()
            .find_map(|token| self.tokenizer.token_to_id(token))
            .unwrap_or(0)
    }

    /// The ids of a text's tokens, at most `max_tokens`, special ones included.
    ///
    /// # Errors
    /// [`PrepareError::Text`] for an empty text, one of more than 16 MB, and one of which no token is known.
    pub(crate) fn tokens(
        &self,
        text: &str,
        input_type: InputType,
    ) -> Result<Vec<u32>, PrepareError> {
        if text.trim().is_empty() {
            return Err(PrepareError::Text(
                "the text is empty; leave it out".to_owned(),
            ));
        }
        if text.len() > MAX_TEXT_BYTES {
            let problem = format!(
                "the text has {} bytes, more than {MAX_TEXT_BYTES}; an embedding is made of its first {} tokens, so give passages of it",
                text.len(),
                self.max_tokens
            );
            return Err(PrepareError::Text(problem));
        }
        let prefix = match input_type {
            InputType::Query => &self.query_prefix,
            InputType::Document => &self.document_prefix,
        };
        // Only the front of a long text counts, so only the front is split, further back as long as it has too few tokens. Where the front is
        // cut, its last tokens may be other ones than in the whole text; they are beyond what counts.
        let most = self.max_tokens.saturating_mul(MOST_BYTES_PER_TOKEN);
        let mut bytes = self.max_tokens.saturating_mul(BYTES_PER_TOKEN);
        loop {
            let end = text.floor_char_boundary(bytes.min(text.len()));
            let whole = end == text.len();
            let front = if prefix.is_empty() {
                text[..end].to_owned()
            } else {
                format!("{prefix}{}", &text[..end])
            };
            let encoded = catch_unwind(AssertUnwindSafe(|| {
                self.tokenizer.encode_fast(front, self.special_tokens)
            }));
            let tokens = match encoded {
                Ok(Ok(tokens)) => tokens,
                Ok(Err(error)) => {
                    return Err(PrepareError::Text(format!(
                        "the text cannot be split into tokens: {error}"
                    )));
                }
                Err(_) => {
                    return Err(PrepareError::Text(
                        "the text cannot be split into tokens: the tokenizer failed".to_owned(),
                    ));
                }
            };
            let produced = tokens.len()
                + tokens
                    .get_overflowing()
                    .iter()
                    .map(|part| part.len())
                    .sum::<usize>();
            if whole || bytes >= most || produced >= 2 * self.max_tokens {
                let ids = tokens.get_ids().to_vec();
                if ids.is_empty() {
                    return Err(PrepareError::Text(
                        "the tokenizer knows nothing of the text; leave it out".to_owned(),
                    ));
                }
                return Ok(ids);
            }
            bytes = bytes.saturating_mul(4);
        }
    }
}

/// The front of a message: some quote the whole file.
fn shortened(message: &str) -> String {
    message.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use perennial_core::{Graph, Pooling};

    use super::*;

    const TOKENIZER: &[u8] = include_bytes!("../testdata/tokenizer.json");

    fn tower(max_tokens: usize) -> TextTower {
        TextTower {
            graph: Graph {
                file: "model.onnx".to_owned(),
                output: "out".to_owned(),
                pooling: Pooling::Mean,
            },
            tokenizer: "tokenizer.json".to_owned(),
            max_tokens,
            query_prefix: "query: ".to_owned(),
            document_prefix: String::new(),
        }
    }

    fn preparation(max_tokens: usize) -> TextPreparation {
        TextPreparation::read(TOKENIZER, &tower(max_tokens), true).unwrap()
    }

    #[test]
    fn marks_and_prefixes_are_added() {
        let preparation = preparation(16);
        let document = preparation.tokens("Red rose", InputType::Document).unwrap();
        let query = preparation.tokens("red ROSE", InputType::Query).unwrap();
        // [CLS] red rose [SEP], and the words of the prefix in front.
        assert_eq!(document.len(), 4);
        assert_eq!(query.len(), 6);
        assert_eq!(query[0], document[0]);
        assert_eq!(query[3..], document[1..]);
    }

    #[test]
    fn long_texts_are_cut_and_keep_their_marks() {
        let preparation = preparation(8);
        let whole = preparation
            .tokens(&"red rose ".repeat(20), InputType::Document)
            .unwrap();
        let long = preparation
            .tokens(&"red rose ".repeat(200_000), InputType::Document)
            .unwrap();
        assert_eq!(long.len(), 8);
        assert_eq!(long, whole);
        let spaces = format!("red{}rose", " ".repeat(2_000));
        assert_eq!(
            preparation.tokens(&spaces, InputType::Document).unwrap(),
            preparation.tokens("red rose", InputType::Document).unwrap()
        );
        assert!(
            preparation
                .tokens(&"x".repeat(1 << 20), InputType::Document)
                .is_ok()
        );
    }

    #[test]
    fn what_has_no_tokens_is_refused() {
        let preparation = preparation(8);
        for text in ["", " \n\t"] {
            let error = preparation.tokens(text, InputType::Document).unwrap_err();
            assert!(error.to_string().contains("empty"), "{error}");
        }
        let error = preparation
            .tokens(&"x".repeat(MAX_TEXT_BYTES + 1), InputType::Query)
            .unwrap_err();
        assert!(error.to_string().contains("passages"), "{error}");
    }

    #[test]
    fn unusable_tokenizers_are_refused() {
        for content in [
            &b""[..],
            b"{}",
            b"[1]",
            b"{\"model\": {\"type\": \"WordPiece\"}}",
            &TOKENIZER[..TOKENIZER.len() / 2],
        ] {
            assert!(TextPreparation::read(content, &tower(8), true).is_err());
        }
        assert_eq!(
            TextPreparation::read(TOKENIZER, &tower(3), true).err(),
            Some(TokenizerError::MaxTokens(3))
        );
        let rows = u64::from(preparation(8).largest) + 1;
        assert!(preparation(8).check_rows("tokenizer.json", rows).is_ok());
        let error = preparation(8)
            .check_rows("tokenizer.json", rows - 1)
            .unwrap_err();
        assert!(error.to_string().contains("another encoder"), "{error}");
    }
}
