//! The cells of Arrow's columns.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;
use serde_json::Value;

use super::columns::type_read;
use crate::lines::MAX_LINE_BYTES;
use crate::vector_set::Payload;

/// Columns of columns are followed this deep.
const MAX_DEPTH: usize = 16;

/// Whether a column can hold ids or labels.
pub(super) fn is_scalar(kind: &DataType) -> bool {
    let kind = type_read(kind);
    kind.is_integer() || kind == DataType::Utf8View
}

/// Whether a column can become JSON.
pub(super) fn is_json(kind: &DataType) -> bool {
    fn within(kind: &DataType, depth: usize) -> bool {
        use DataType as T;
        match kind {
            _ if depth == 0 => false,
            T::Null | T::Boolean | T::Utf8 | T::LargeUtf8 | T::Utf8View => true,
            T::Float16 | T::Float32 | T::Float64 => true,
            kind if kind.is_integer() => true,
            T::List(item)
            | T::LargeList(item)
            | T::ListView(item)
            | T::LargeListView(item)
            | T::FixedSizeList(item, _) => within(item.data_type(), depth - 1),
            T::Struct(fields) => fields
                .iter()
                .all(|field| within(field.data_type(), depth - 1)),
            T::Dictionary(key, value) => key.is_integer() && within(value, depth - 1),
            _ => false,
        }
    }
    within(kind, MAX_DEPTH)
}

/// The items of a list in one row; `None` if the column is no list, or the row has none.
pub(super) fn list(array: &dyn Array, row: usize) -> Option<ArrayRef> {
    if array.is_null(row) {
        return None;
    }
    match array.data_type() {
        DataType::FixedSizeList(..) => Some(array.as_fixed_size_list().value(row)),
        DataType::List(_) => Some(array.as_list::<i32>().value(row)),
        DataType::LargeList(_) => Some(array.as_list::<i64>().value(row)),
        _ => None,
    }
}

/// Adds all values of a column to `out`; says whether they are floating-point numbers without gaps.
pub(super) fn floats(array: &dyn Array, out: &mut Vec<f32>) -> bool {
    if array.null_count() > 0 {
        return false;
    }
    match array.data_type() {
        DataType::Float16 => {
            let values = array.as_primitive::<Float16Type>().values();
            out.extend(values.iter().map(|value| value.to_f32()));
        }
        DataType::Float32 => {
            out.extend_from_slice(array.as_primitive::<Float32Type>().values());
        }
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>().values();
            out.extend(values.iter().map(|&value| value as f32));
        }
        _ => return false,
    }
    true
}

fn integer(array: &dyn Array, row: usize) -> Option<i128> {
    Some(match array.data_type() {
        DataType::Int8 => array.as_primitive::<Int8Type>().value(row).into(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).into(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).into(),
        DataType::UInt8 => array.as_primitive::<UInt8Type>().value(row).into(),
        DataType::UInt16 => array.as_primitive::<UInt16Type>().value(row).into(),
        DataType::UInt32 => array.as_primitive::<UInt32Type>().value(row).into(),
        DataType::UInt64 => array.as_primitive::<UInt64Type>().value(row).into(),
        _ => return None,
    })
}

/// A number or a text: what ids and labels are.
pub(super) enum Scalar {
    Number(i128),
    Text(String),
}

/// The number or the text of a row; `None` where there is none, or the column holds neither.
pub(super) fn scalar(array: &dyn Array, row: usize) -> Option<Scalar> {
    if array.is_null(row) {
        return None;
    }
    if let Some(number) = integer(array, row) {
        return Some(Scalar::Number(number));
    }
    text(array, row).map(|text| Scalar::Text(text.to_owned()))
}

/// The text of a row, from the types that texts are read as.
pub(super) fn text(array: &dyn Array, row: usize) -> Option<&str> {
    match array.data_type() {
        DataType::Utf8View if !array.is_null(row) => Some(array.as_string_view().value(row)),
        _ => None,
    }
}

/// The longest payload of a row, as the longest line of JSONL; a value that is no text counts as 8 bytes.
pub(super) const MAX_PAYLOAD_BYTES: usize = MAX_LINE_BYTES as usize;
const VALUE_BYTES: usize = 8;

/// What a payload may still hold.
pub(super) struct Room(usize);

/// A payload longer than it may be.
#[derive(Debug)]
pub(super) struct Full;

impl Room {
    pub(super) fn new() -> Self {
        Self(MAX_PAYLOAD_BYTES)
    }

    pub(super) fn taken(&self) -> usize {
        MAX_PAYLOAD_BYTES - self.0
    }

    pub(super) fn take(&mut self, bytes: usize) -> Result<(), Full> {
        self.0 = self.0.checked_sub(bytes).ok_or(Full)?;
        Ok(())
    }
}

/// A cell as JSON. NaN and infinity become null, which JSON has no numbers for.
pub(super) fn json(array: &dyn Array, row: usize, room: &mut Room) -> Result<Value, Full> {
    room.take(VALUE_BYTES)?;
    if array.is_null(row) {
        return Ok(Value::Null);
    }
    let mut float = Vec::new();
    Ok(match array.data_type() {
        DataType::Boolean => array.as_boolean().value(row).into(),
        DataType::Float64 => array.as_primitive::<Float64Type>().value(row).into(),
        DataType::Float16 | DataType::Float32 if floats(&array.slice(row, 1), &mut float) => {
            float.first().copied().into()
        }
        DataType::Struct(_) => Value::Object(entries(array, row, room)?),
        _ => {
            if let Some(items) = list(array, row) {
                // Before any of them is made.
                room.take(items.len().saturating_mul(VALUE_BYTES))?;
                room.0 += items.len() * VALUE_BYTES;
                let items = (0..items.len()).map(|item| json(&items, item, room));
                return Ok(Value::Array(items.collect::<Result<_, _>>()?));
            }
            room.take(text(array, row).map_or(0, str::len))?;
            match scalar(array, row) {
                Some(Scalar::Text(text)) => text.into(),
                Some(Scalar::Number(number)) => {
                    match (i64::try_from(number), u64::try_from(number)) {
                        (Ok(number), _) => number.into(),
                        (_, Ok(number)) => number.into(),
                        _ => Value::Null,
                    }
                }
                None => Value::Null,
            }
        }
    })
}

/// The fields of a struct that have a value.
pub(super) fn entries(array: &dyn Array, row: usize, room: &mut Room) -> Result<Payload, Full> {
    let Some(array) = array.as_struct_opt() else {
        return Ok(Payload::new());
    };
    let fields = array.fields().iter().zip(array.columns());
    fields
        .filter(|(_, column)| !column.is_null(row))
        .map(|(field, column)| {
            room.take(field.name().len())?;
            Ok((field.name().clone(), json(column, row, room)?))
        })
        .collect()
}
