//! Whether a tokenizer that lay beside a graph or table belongs to it.
//!
//! A tokenizer of another model makes ids that the encoder takes without complaint, and embeddings that mean nothing. What can be told from the files:
//!
//! | what | why it tells |
//! |---|---|
//! | ids beyond the table of token vectors | refused at every load, also of a tokenizer that was named |
//! | far fewer ids than rows of the table | tables are padded by a few rows, not by a tenth |
//! | `vocab_size` of `config.json`, and the table's rows | the files are of two encoders |
//! | special tokens of `tokenizer_config.json` | the tokenizer that goes with this file has them all |
//!
//! Beside that, `do_lower_case` of `sentence_bert_config.json`: sentence-transformers puts texts into lower case before the tokenizer sees them, which is
//! not done here, so it is refused unless the tokenizer itself ignores case.
//!
//! A tokenizer that was named with [`ImportOptions::tokenizer`](super::ImportOptions::tokenizer) is taken to be the right one: of these, only ids beyond
//! the table are an error then, and few ids are a finding.

use std::path::Path;

use serde_json::Value;

use super::error::ImportError;
use super::folder::Folder;
use crate::text::TextPreparation;

/// Special tokens that texts are marked, filled or replaced with.
const SPECIAL: [&str; 6] = [
    "bos_token",
    "cls_token",
    "eos_token",
    "pad_token",
    "sep_token",
    "unk_token",
];

/// Checks a tokenizer against the rows of its encoder's table, where they are known, and against the files of its folder. Gives a line for the
/// findings where something is to be looked at.
///
/// # Errors
/// [`ImportError::OtherTokenizer`], and files that cannot be read.
pub(super) fn check(
    folder: &Folder,
    path: &Path,
    named: bool,
    tokenizer: &TextPreparation,
    rows: Option<u64>,
) -> Result<Option<String>, ImportError> {
    let other = |problem: String| ImportError::OtherTokenizer {
        path: path.to_owned(),
        problem,
    };
    if let Some(config) = folder.config("sentence_bert_config.json")?
        && config.flag("do_lower_case")?
        && !tokenizer.ignores_case()
    {
        return Err(config.error(
            "do_lower_case",
            "is true, and the tokenizer tells upper from lower case: texts are not put into lower case before it here, so their embeddings would \
             be other ones; give a tokenizer.json with the normalizer Lowercase",
        ));
    }
    let ids = u64::from(tokenizer.largest()) + 1;
    if let Some(rows) = rows.filter(|rows| ids < rows - rows / 10) {
        let problem = format!("it has {ids} token ids, and the encoder vectors for {rows} tokens");
        return match named {
            true => Ok(Some(format!("look at the tokenizer: {problem}"))),
            false => Err(other(problem)),
        };
    }
    if named {
        return Ok(None);
    }
    if let (Some(rows), Some(config)) = (rows, folder.config("config.json")?)
        && let Some(said) = config.get("vocab_size").and_then(Value::as_u64)
        && said != rows
    {
        return Err(other(format!(
            "config.json beside it says vocab_size {said}, and the encoder has vectors for {rows} tokens, so the files are of two encoders"
        )));
    }
    let Some(config) = folder.config("tokenizer_config.json")? else {
        return Ok(None);
    };
    for key in SPECIAL {
        let token = match config.get(key) {
            Some(Value::String(token)) => token,
            Some(Value::Object(token)) => match token.get("content") {
                Some(Value::String(token)) => token,
                _ => continue,
            },
            _ => continue,
        };
        if tokenizer.id(token).is_none() {
            return Err(other(format!(
                "tokenizer_config.json beside it names {token:?} as {key}, which it does not have, so the files are of two encoders"
            )));
        }
    }
    Ok(None)
}
