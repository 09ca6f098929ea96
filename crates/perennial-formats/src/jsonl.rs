//! Files of one JSON object a line.

use std::fmt;
use std::io::Write;
use std::path::Path;

use perennial_core::{ItemId, OutputFile};
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::error::FormatError;
use crate::format::Format;
use crate::label::Label;
use crate::lines::Lines;
use crate::rows::{Row, RowReader, RowSource};
use crate::stream::{BatchReader, BatchWriter, Header};
use crate::vector_set::{Payload, VectorSet};

pub(crate) fn open(path: &Path) -> Result<Box<dyn BatchReader>, FormatError> {
    let source = rows(path)?;
    Ok(Box::new(RowReader::new(path, Format::Jsonl, source)?))
}

/// The lines of a file, which need not hold vectors.
pub(crate) fn rows(path: &Path) -> Result<impl RowSource + use<>, FormatError> {
    Ok(Source(Lines::open(path)?))
}

struct Source(Lines);

impl RowSource for Source {
    fn next(&mut self) -> Result<Option<Row>, FormatError> {
        let parsed = match self.0.next()? {
            None => return Ok(None),
            Some(line) => serde_json::from_str::<Row>(line),
        };
        let row = parsed.map_err(|error| self.0.error(in_line(&error)))?;
        Ok(Some(row))
    }

    fn error(&self, problem: &str) -> FormatError {
        self.0.error(problem)
    }
}

/// The parser counts lines from the start of what it was given, which is one line of the file.
pub(crate) fn in_line(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let problem = text.strip_suffix(&place).unwrap_or(&text);
    format!("cannot be used: {problem} (column {})", error.column())
}

impl<'de> Deserialize<'de> for Row {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Row;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with `embedding`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Row, A::Error> {
                let mut row = Row::default();
                let mut beside = Payload::new();
                while let Some(key) = map.next_key::<String>()? {
                    let doubled = match key.as_str() {
                        "id" | "_id" => {
                            let id: Option<ItemId> = map.next_value()?;
                            let id = id.map(read_id).transpose().map_err(A::Error::custom)?;
                            id.is_some() && std::mem::replace(&mut row.id, id).is_some()
                        }
                        "label" => {
                            let label: Option<Label> = map.next_value()?;
                            let label = label
                                .map(read_label)
                                .transpose()
                                .map_err(A::Error::custom)?;
                            label.is_some() && std::mem::replace(&mut row.label, label).is_some()
                        }
                        "embedding" | "vector" | "values" => {
                            row.vector.replace(map.next_value()?).is_some()
                        }
                        "payload" | "metadata" => {
                            let payload: Option<Payload> = map.next_value()?;
                            join(&mut row.payload, payload.unwrap_or_default())
                        }
                        _ => beside.insert(key.clone(), map.next_value()?).is_some(),
                    };
                    if doubled {
                        return Err(A::Error::custom(format!("`{key}` is given twice")));
                    }
                }
                if join(&mut row.payload, beside) {
                    return Err(A::Error::custom(
                        "a key stands both in the payload and beside it",
                    ));
                }
                Ok(row)
            }
        }

        deserializer.deserialize_map(Object)
    }
}

/// Adds the entries of one object to another and says whether both had one of the keys.
pub(crate) fn join(payload: &mut Payload, more: Payload) -> bool {
    let mut doubled = false;
    for (key, value) in more {
        doubled |= payload.insert(key, value).is_some();
    }
    doubled
}

/// An id that a file holds as text is read as a text is, so that "12" and 12 are one id in all formats.
pub(crate) fn read_id(id: ItemId) -> Result<ItemId, String> {
    match id {
        ItemId::Text(text) => text.parse().map_err(|error| format!("{error}")),
        number => Ok(number),
    }
}

/// The same for labels.
pub(crate) fn read_label(label: Label) -> Result<Label, String> {
    match label {
        Label::Text(text) => text.parse().map_err(|error| format!("{error}")),
        number => Ok(number),
    }
}

#[derive(Serialize)]
struct Written<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<Value>,
    embedding: &'a [f32],
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a Payload>,
}

struct Writer(OutputFile);

pub(crate) fn create(
    output: OutputFile,
    _header: &Header,
) -> Result<Box<dyn BatchWriter>, FormatError> {
    Ok(Box::new(Writer(output)))
}

impl BatchWriter for Writer {
    fn write(&mut self, batch: &VectorSet) -> Result<(), FormatError> {
        for row in 0..batch.len() {
            let written = Written {
                id: batch.ids().map(|ids| match &ids[row] {
                    ItemId::Number(number) => Value::from(*number),
                    text => Value::from(text.to_string()),
                }),
                label: batch.labels().map(|labels| match &labels[row] {
                    Label::Number(number) => Value::from(*number),
                    text => Value::from(text.to_string()),
                }),
                embedding: batch.row(row),
                payload: batch
                    .payload()
                    .map(|payload| &payload[row])
                    .filter(|payload| !payload.is_empty()),
            };
            serde_json::to_writer(&mut self.0, &written).map_err(std::io::Error::from)?;
            self.0.write_all(b"\n")?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>, _rows: u64) -> Result<(), FormatError> {
        Ok(self.0.finish()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{file, problem};

    #[test]
    fn lines_of_other_programs_are_read() {
        let text = "\u{feff}{\"id\": \"12\", \"values\": [1, -2.5e0], \"metadata\": {\"a\": 1}, \"label\": \"7\", \"text\": \"x\"}\n\n\
                    {\"_id\": \"b\", \"vector\": [0, 1], \"label\": -3, \"payload\": null}\r\n";
        let (_folder, path) = file(text);
        let set = crate::read(&path).unwrap();
        assert_eq!(set.ids().unwrap(), [ItemId::Number(12), "b".into()]);
        assert_eq!(set.labels().unwrap(), [Label::Number(7), Label::Number(-3)]);
        assert_eq!(set.vectors(), [1.0, -2.5, 0.0, 1.0]);
        let payload: Payload = serde_json::from_str("{\"a\":1,\"text\":\"x\"}").unwrap();
        assert_eq!(set.payload().unwrap(), [payload, Payload::new()]);
    }

    #[test]
    fn errors_name_the_line() {
        let good = "{\"id\":1,\"embedding\":[1,2]}\n";
        for (line, says) in [
            ("{\"id\":2,\"embedding\":[1]}", "line 2 holds 1 values"),
            ("{\"embedding\":[1,2]}", "line 2 lacks an id"),
            (
                "{\"id\":2,\"label\":1,\"embedding\":[1,2]}",
                "line 2 has a label",
            ),
            ("{\"id\":2}", "line 2 holds no vector"),
            ("{\"id\":2,\"embedding\":[1,1e39]}", "line 2"),
            ("{\"id\":2,\"embedding\":[1,NaN]}", "line 2 cannot be used"),
            ("{\"id\":-2,\"embedding\":[1,2]}", "line 2 cannot be used"),
            (
                "{\"id\":2,\"embedding\":[1,2],\"vector\":[1,2]}",
                "given twice",
            ),
            (
                "{\"id\":2,\"embedding\":[1,2],\"a\":1,\"payload\":{\"a\":2}}",
                "beside it",
            ),
            ("[1,2]", "an object with `embedding`"),
            ("{\"id\":2,\"embedding\":[1,2]", "line 2 cannot be used"),
        ] {
            let text = problem(format!("{good}{line}"));
            assert!(text.contains(says), "{line}: {text}");
        }
        assert!(problem("{\"id\":1}").contains("line 1 holds no vector"));
        assert!(problem("{\"embedding\":[]}").contains("0 dimensions"));
    }

    #[test]
    fn endless_lines_are_refused() {
        let text = format!(
            "{{\"a\":\"{}",
            "x".repeat(crate::lines::MAX_LINE_BYTES as usize)
        );
        assert!(problem(&text).contains("line 1 is longer"));
    }
}
