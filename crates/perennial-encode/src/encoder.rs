//! The one interface between a trained network and everything that needs embeddings.

use std::time::Duration;

use perennial_core::Modality;
use thiserror::Error;

use crate::codec::DecodeError;
use crate::input::{Input, Prepared};
use crate::preparation::PreparationError;
use crate::service_failure::ServiceFailure;

/// An input that an encoder cannot be given.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PrepareError {
    /// A text for an encoder of pictures, or the other way round.
    #[error("{version} embeds {accepted}, not {given}")]
    Modality {
        /// The encoder's name.
        version: String,
        /// What it embeds, in words.
        accepted: String,
        /// What was given, in words.
        given: &'static str,
    },
    /// A picture that cannot be decoded.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A version whose preparation of pictures cannot be carried out.
    #[error(
        "no picture can be prepared for this version: {0}; correct its model.toml or import it again"
    )]
    Preparation(#[from] PreparationError),
    /// A text that cannot be split into tokens, or is empty or too long.
    #[error("{0}")]
    Text(String),
}

/// A batch that could not be encoded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The inputs were prepared for another encoder.
    #[error("input {input} of the batch was prepared for another encoder: {problem}")]
    Prepared {
        /// Position of the input in the batch, from 0.
        input: usize,
        /// What does not fit.
        problem: String,
    },
    /// An embedding holds a NaN or an infinity, or has length 0, so it has no direction.
    #[error(
        "the embedding of input {input} of the batch is not finite or is all zeros; check the input and the weights"
    )]
    NonFinite {
        /// Position of the input in the batch, from 0.
        input: usize,
    },
    /// The service behind the encoder gave no embeddings.
    #[error("the embedding service {service} {problem}")]
    Service {
        /// Its host, and its port where it has one of its own.
        service: String,
        /// What happened, as the end of a sentence that begins with the service's name, and what to do.
        problem: String,
        /// Of which kind it is.
        failure: ServiceFailure,
        /// When to try again, where the service says so.
        retry_after: Option<Duration>,
    },
    /// The framework behind the encoder failed.
    #[error("the encoder failed: {0}")]
    Backend(String),
}

impl EncodeError {
    /// Whether one input of a batch may be the reason, so that the others might be encoded without it. Nothing helps against a service that is
    /// gone, hangs or is busy.
    pub fn may_concern_one_input(&self) -> bool {
        match self {
            Self::Service { failure, .. } => *failure == ServiceFailure::Inputs,
            _ => true,
        }
    }
}

/// Turns pictures or texts into unit-length embeddings.
///
/// Implementations are shared between threads and must give the same embedding for the same input, whatever else is in the batch.
pub trait Encoder: Send + Sync {
    /// The name of the model version, recorded with every embedding.
    fn model_version(&self) -> &str;

    /// The length of an embedding, `d`.
    fn dim(&self) -> usize;

    /// What it embeds: pictures, texts, or both into one space.
    fn accepts(&self) -> &[Modality];

    /// How many batches at a time it lets another machine encode, so that nothing here is kept from working meanwhile; none for an encoder that
    /// computes here.
    fn batches_elsewhere(&self) -> Option<usize> {
        None
    }

    /// Refuses what it does not embed; the first check of every implementation of [`prepare`](Self::prepare).
    ///
    /// # Errors
    /// [`PrepareError::Modality`].
    fn check_modality(&self, input: &Input<'_>) -> Result<(), PrepareError> {
        let given = input.modality();
        if self.accepts().contains(&given) {
            return Ok(());
        }
        let accepted: Vec<&str> = self.accepts().iter().copied().map(words).collect();
        Err(PrepareError::Modality {
            version: self.model_version().to_owned(),
            accepted: accepted.join(" and "),
            given: words(given),
        })
    }

    /// Makes one input ready: decodes, scales and normalises a picture, or splits a text into tokens. Blocks; callers run several in
    /// parallel on threads of their own.
    ///
    /// # Errors
    /// See [`PrepareError`].
    fn prepare(&self, input: Input<'_>) -> Result<Prepared, PrepareError>;

    /// Encodes a batch of inputs that [`prepare`](Self::prepare) made. Pictures and texts may be mixed where both are accepted.
    ///
    /// **Shapes**: the result is `[batch.len(), d]` with rows of unit length.
    ///
    /// # Errors
    /// See [`EncodeError`].
    fn encode(&self, batch: &[Prepared]) -> Result<Vec<f32>, EncodeError>;

    /// The same for a measurement, which is not to end at a single input: one whose embedding has length 0, and so no direction, gets a row of
    /// zeros. An encoder that cannot tell refuses it, as [`encode`](Self::encode) does.
    ///
    /// **Shapes**: as [`encode`](Self::encode).
    ///
    /// # Errors
    /// See [`EncodeError`].
    fn encode_with_missing(&self, batch: &[Prepared]) -> Result<Vec<f32>, EncodeError> {
        self.encode(batch)
    }
}

/// What is embedded, in words.
fn words(modality: Modality) -> &'static str {
    match modality {
        Modality::Image => "pictures",
        Modality::Text => "texts",
        Modality::Audio => "sounds",
        Modality::Other => "other inputs",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::InputType;

    struct Texts;

    impl Encoder for Texts {
        fn model_version(&self) -> &str {
            "v0001"
        }

        fn dim(&self) -> usize {
            1
        }

        fn accepts(&self) -> &[Modality] {
            &[Modality::Text]
        }

        fn prepare(&self, input: Input<'_>) -> Result<Prepared, PrepareError> {
            self.check_modality(&input)?;
            Err(PrepareError::Text("nothing is split here".to_owned()))
        }

        fn encode(&self, _: &[Prepared]) -> Result<Vec<f32>, EncodeError> {
            Ok(Vec::new())
        }
    }

    #[test]
    fn other_inputs_are_refused_in_words() {
        let encoder: Box<dyn Encoder> = Box::new(Texts);
        let (pixels, shape) = (&[0][..], [1, 1, 1]);
        let error = encoder
            .prepare(Input::Pixels { pixels, shape })
            .unwrap_err();
        assert_eq!(error.to_string(), "v0001 embeds texts, not pictures");
        let text = Input::Text {
            text: "a",
            input_type: InputType::Query,
        };
        let error = encoder.prepare(text).unwrap_err();
        assert!(matches!(error, PrepareError::Text(_)), "{error}");
    }
}
