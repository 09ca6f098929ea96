//! What the answer of an embedding service must hold: as many finite vectors of one dimension as there were inputs.

use serde::de::DeserializeOwned;

use super::failure::Failure;

/// JSON text of one value: sign, digits of a double, exponent, comma and a space or a line break with indentation.
const BYTES_PER_VALUE: u64 = 48;
/// Names of keys, usage, and headers of the answer's JSON.
const BYTES_BESIDE: u64 = 64 << 10;
const BYTES_PER_ROW: u64 = 256;
/// The longest embedding of a service whose dimension is not known yet.
const MAX_DIM: usize = 1 << 16;

/// The rows that an answer must have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows {
    count: usize,
    /// None before the first answer.
    dim: Option<usize>,
}

impl Rows {
    pub(super) fn of(count: usize, dim: Option<usize>) -> Self {
        Self { count, dim }
    }

    /// An answer with more bytes is not read to its end.
    pub(super) fn most_bytes(&self) -> u64 {
        let dim = self.dim.unwrap_or(MAX_DIM) as u64;
        let row = dim * BYTES_PER_VALUE + BYTES_PER_ROW;
        self.count as u64 * row + BYTES_BESIDE
    }

    /// The body as JSON of the expected form.
    pub(super) fn parse<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, Failure> {
        let wrong = |problem: String| Failure::nonsense(problem);
        let text = body.trim_ascii_start();
        if text.is_empty() {
            return Err(wrong("sent an empty answer".to_owned()));
        }
        if text.starts_with(b"<") {
            return Err(wrong(
                "answers with HTML instead of JSON; check the setting `url`".to_owned(),
            ));
        }
        serde_json::from_slice(body).map_err(|error| {
            // Some programs write the words although JSON has no such numbers, and 1e39 is none of 32 bits.
            let holds = |word: &[u8]| body.windows(word.len()).any(|window| window == word);
            let infinite = error.to_string().contains("out of range");
            if error.is_syntax() && (infinite || holds(b"NaN") || holds(b"Infinity")) {
                return wrong("sent embeddings with values that are NaN or infinite".to_owned());
            }
            match error.is_data() {
                true => wrong(format!("sent an answer of another form: {error}")),
                false => wrong(format!("sent an answer that is no JSON: {error}")),
            }
        })
    }

    /// Checks the number of embeddings.
    pub(super) fn count(&self, found: usize) -> Result<(), Failure> {
        if found == self.count {
            return Ok(());
        }
        Err(Failure::nonsense(format!(
            "sent {found} embeddings for {} inputs",
            self.count
        )))
    }

    /// The rows behind one another, each checked.
    ///
    /// **Shapes**: the result is `[count, dim]`.
    pub(super) fn join(
        &self,
        rows: impl IntoIterator<Item = Vec<f32>>,
    ) -> Result<Vec<f32>, Failure> {
        let mut rows = rows.into_iter().peekable();
        let first = rows.peek().map(Vec::len);
        let dim = self.dim.or(first).unwrap_or_default();
        let mut joined = Vec::with_capacity(self.count * dim);
        for (row, values) in rows.enumerate() {
            let problem = if values.len() != dim {
                format!("has {} dimensions, but its space has {dim}", values.len())
            } else if dim > MAX_DIM {
                format!("has more than {MAX_DIM} dimensions")
            } else if !values.iter().all(|value| value.is_finite()) {
                "has values that are NaN or infinite".to_owned()
            } else if values.iter().all(|value| *value == 0.0) {
                "has length 0".to_owned()
            } else {
                joined.extend(values);
                continue;
            };
            return Err(Failure::nonsense(format!(
                "sent an embedding (of input {row}) that {problem}"
            )));
        }
        Ok(joined)
    }
}
