//! Values of payloads as labels.

use perennial_core::ItemId;
use perennial_formats::Label;
use serde_json::Value;

use crate::engine::segments;
use crate::error::ConnectError;

/// Checks a path that a label is read by.
///
/// # Errors
/// [`ConnectError::Usage`] for one that leads nowhere.
pub(super) fn check_path(label: Option<&str>) -> Result<(), ConnectError> {
    match label {
        Some(label) if segments(label).is_none() => Err(ConnectError::Usage(format!(
            "{label:?} is no path of a payload; write FIELD or FIELD.FIELD, with names that hold a dot between quotation marks"
        ))),
        _ => Ok(()),
    }
}

/// A value of a point's payload as its label; nothing for null and for an empty text.
pub(super) fn label_of(value: Value, point: &ItemId) -> Result<Option<Label>, ConnectError> {
    let label = match value {
        Value::Null => return Ok(None),
        Value::String(text) if text.is_empty() => return Ok(None),
        Value::String(text) => Label::Text(text),
        Value::Number(number) => match number.as_i64() {
            Some(number) => Label::Number(number),
            None => Label::Text(number.to_string()),
        },
        Value::Bool(flag) => Label::Text(flag.to_string()),
        Value::Array(_) | Value::Object(_) => {
            return Err(ConnectError::Usage(format!(
                "the label of point {point} is a list or an object; name a field with a text or a number, or one within it as FIELD.FIELD"
            )));
        }
    };
    label.check().map_err(|error| {
        ConnectError::Value(format!(
            "a label of point {point} that files cannot hold: {error}"
        ))
    })?;
    Ok(Some(label))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_become_labels() {
        let label_of = |value| super::label_of(value, &ItemId::Number(7));
        assert_eq!(
            label_of(json!("a")).unwrap(),
            Some(Label::Text("a".to_owned()))
        );
        assert_eq!(label_of(json!(-3)).unwrap(), Some(Label::Number(-3)));
        assert_eq!(
            label_of(json!(true)).unwrap(),
            Some(Label::Text("true".to_owned()))
        );
        assert_eq!(label_of(json!(null)).unwrap(), None);
        assert_eq!(label_of(json!("")).unwrap(), None);
        for bad in [json!([1]), json!("two\nlines")] {
            let error = label_of(bad).unwrap_err().to_string();
            assert!(error.contains("point 7"), "{error}");
        }
    }
}
