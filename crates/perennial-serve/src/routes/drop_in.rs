//! What the endpoints of other services' protocols share: inputs as texts, and answers that say which space they are in.

use std::fmt;

use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use utoipa::ToSchema;

use crate::answering::Choice;
use crate::config::{Limits, MAX_INPUTS};
use crate::error::ApiError;
use crate::request_log::MODEL_VERSION;

const SPACE: HeaderName = HeaderName::from_static("x-embedding-space");
const ROUTE: HeaderName = HeaderName::from_static("x-embedding-route");
const FALLBACK: HeaderName = HeaderName::from_static("x-embedding-fallback");

/// One text, or several.
#[derive(Debug)]
pub(super) struct Inputs(pub(super) Vec<String>);

/// One text, or several. Texts for encoders of pictures are `data:image/...;base64,` URLs or the base64 of picture files.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = Inputs)]
#[allow(dead_code, reason = "describes what is read by hand")]
pub(crate) enum InputsSchema {
    /// One.
    One(String),
    /// Several.
    Several(Vec<String>),
}

const NO_TOKENS: &str =
    "holds token ids; send texts, which are cut into tokens by the encoder's own tokenizer";

impl<'de> Deserialize<'de> for Inputs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrSeveral;

        impl<'de> Visitor<'de> for OneOrSeveral {
            type Value = Inputs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of texts")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Inputs, E> {
                Ok(Inputs(vec![text.to_owned()]))
            }

            fn visit_string<E: Error>(self, text: String) -> Result<Inputs, E> {
                Ok(Inputs(vec![text]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Inputs, A::Error> {
                let mut inputs = Vec::new();
                while let Some(Input(input)) = entries.next_element()? {
                    if inputs.len() == MAX_INPUTS {
                        return Err(A::Error::custom(format!(
                            "has more than {MAX_INPUTS} entries"
                        )));
                    }
                    inputs.push(input);
                }
                Ok(Inputs(inputs))
            }
        }

        deserializer.deserialize_any(OneOrSeveral)
    }
}

/// One of several texts.
struct Input(String);

impl<'de> Deserialize<'de> for Input {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl<'de> Visitor<'de> for Text {
            type Value = Input;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Input, E> {
                Ok(Input(text.to_owned()))
            }

            fn visit_string<E: Error>(self, text: String) -> Result<Input, E> {
                Ok(Input(text))
            }

            fn visit_u64<E: Error>(self, _: u64) -> Result<Input, E> {
                Err(E::custom(NO_TOKENS))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Input, A::Error> {
                Err(A::Error::custom(NO_TOKENS))
            }
        }

        deserializer.deserialize_any(Text)
    }
}

impl Inputs {
    /// The texts, if they are not too many.
    ///
    /// # Errors
    /// 422 for none or too many.
    pub(super) fn within(self, limits: &Limits) -> Result<Vec<String>, ApiError> {
        let count = self.0.len();
        match (1..=limits.inputs).contains(&count) {
            true => Ok(self.0),
            false => Err(ApiError::unprocessable(format!(
                "expected 1 to {} inputs, got {count}",
                limits.inputs
            ))),
        }
    }
}

/// A vector as JSON.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Vector {
    /// An array of numbers.
    Float(Vec<f32>),
    /// The base64 of its bytes: 32-bit floats, the lowest byte first.
    Base64(String),
}

/// JSON that names the space and the route in headers, and the model version where there is one.
pub(crate) struct Spaced<T> {
    body: T,
    space: String,
    route: &'static str,
    fallback: Option<&'static str>,
    model_version: Option<String>,
}

impl<T> Spaced<T> {
    pub(super) fn new(choice: &Choice, body: T) -> Self {
        Self {
            body,
            space: choice.space.clone(),
            route: choice.route,
            fallback: choice.fallback,
            model_version: choice.model_version().map(str::to_owned),
        }
    }
}

impl<T: Serialize> IntoResponse for Spaced<T> {
    fn into_response(self) -> Response {
        let mut response = axum::Json(self.body).into_response();
        let headers = response.headers_mut();
        headers.insert(ROUTE, HeaderValue::from_static(self.route));
        if let Some(reason) = self.fallback {
            headers.insert(FALLBACK, HeaderValue::from_static(reason));
        }
        for (name, value) in [
            (SPACE, Some(self.space)),
            (MODEL_VERSION, self.model_version),
        ] {
            if let Some(value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
                headers.insert(name, value);
            }
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_taken_and_tokens_refused() {
        let of = |json: &str| serde_json::from_str::<Inputs>(json);
        assert_eq!(of("\"a\"").unwrap().0, ["a"]);
        assert_eq!(of("[\"a\", \"b\\n\"]").unwrap().0, ["a", "b\n"]);
        assert!(of("[]").unwrap().0.is_empty());
        for json in ["[1, 2]", "[[1, 2], [3]]"] {
            assert!(
                of(json).unwrap_err().to_string().contains("token ids"),
                "{json}"
            );
        }
        for json in ["1", "null", "[null]", "{}", "[-1]"] {
            assert!(of(json).is_err(), "{json}");
        }
        let many = format!("[{}\"\"]", "\"\",".repeat(MAX_INPUTS));
        assert!(of(&many).unwrap_err().to_string().contains("more than"));
        let limits = Limits {
            inputs: 1,
            ..Limits::default()
        };
        assert!(of("[]").unwrap().within(&limits).is_err());
        assert!(of("[\"\"]").unwrap().within(&limits).is_ok());
        assert!(of("[\"\",\"\"]").unwrap().within(&limits).is_err());
    }
}
