//! The one interface between a trained network and everything that needs embeddings.

use thiserror::Error;

/// A batch that could not be encoded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// The pixels cannot be split into images of the encoder's input shape.
    #[error(
        "expected whole images of {}x{}x{} (channels, height, width; {} values each), got {actual} values",
        expected[0], expected[1], expected[2], expected.iter().product::<usize>()
    )]
    Shape {
        /// Channels, height and width of one image.
        expected: [usize; 3],
        /// Values given.
        actual: usize,
    },
    /// An embedding holds a NaN or an infinity, or has length 0, so it has no direction.
    #[error(
        "the embedding of image {image} of the batch is not finite or is all zeros; check the image and the weights"
    )]
    NonFinite {
        /// Position of the image in the batch, from 0.
        image: usize,
    },
    /// The framework behind the encoder failed.
    #[error("the encoder failed: {0}")]
    Backend(String),
}

/// Turns images into unit-length embeddings.
///
/// Implementations are shared between threads and must give the same embedding for the same image, whatever else is
/// in the batch.
pub trait Encoder: Send + Sync {
    /// Channels, height and width of an input image.
    fn input_shape(&self) -> [usize; 3];

    /// The length of an embedding, `d`.
    fn dim(&self) -> usize;

    /// The name of the model version, recorded with every embedding.
    fn model_version(&self) -> &str;

    /// Encodes a batch.
    ///
    /// **Shapes**: `pixels` is `[n, c, h, w]`, row-major and normalised with the version's mean and standard
    /// deviation; the result is `[n, d]` with rows of unit length.
    ///
    /// # Errors
    /// See [`EncodeError`].
    fn encode(&self, pixels: &[f32]) -> Result<Vec<f32>, EncodeError>;

    /// The number of images in a batch of pixels, the first check of every implementation of
    /// [`encode`](Self::encode).
    ///
    /// # Errors
    /// [`EncodeError::Shape`] when the pixels cannot be split into images.
    fn image_count(&self, pixels: &[f32]) -> Result<usize, EncodeError> {
        let expected = self.input_shape();
        let per_image: usize = expected.iter().product();
        if per_image == 0 || !pixels.len().is_multiple_of(per_image) {
            return Err(EncodeError::Shape {
                expected,
                actual: pixels.len(),
            });
        }
        Ok(pixels.len() / per_image)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Constant;

    impl Encoder for Constant {
        fn input_shape(&self) -> [usize; 3] {
            [3, 2, 2]
        }

        fn dim(&self) -> usize {
            2
        }

        fn model_version(&self) -> &str {
            "v0001"
        }

        fn encode(&self, pixels: &[f32]) -> Result<Vec<f32>, EncodeError> {
            Ok([1.0, 0.0].repeat(self.image_count(pixels)?))
        }
    }

    #[test]
    fn counts_whole_images_only() {
        let encoder: Box<dyn Encoder> = Box::new(Constant);
        assert_eq!(encoder.encode(&[0.5; 36]).unwrap().len(), 3 * encoder.dim());
        assert_eq!(encoder.encode(&[]), Ok(vec![]));
        let error = encoder.encode(&[0.5; 35]).unwrap_err();
        assert_eq!(
            error,
            EncodeError::Shape {
                expected: [3, 2, 2],
                actual: 35
            }
        );
        assert!(error.to_string().contains("3x2x2") && error.to_string().contains("12 values"));
    }
}
