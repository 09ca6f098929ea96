//! Which columns are read as which types, and how much memory their values take.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields};
use parquet::basic::Type;
use parquet::schema::types::SchemaDescriptor;

/// Memory of a value in a payload.
const VALUE_BYTES: u64 = 40;
/// Of its levels, 16 bits each.
const LEVEL_BYTES: u64 = 4;

/// A column of the file that is read, without the structure around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leaf {
    /// Its place among all leaves of the file.
    pub(super) index: usize,
    /// Memory of each of its values that lists of any length hold; 0 if no such list is around it.
    pub(super) per_value: u64,
    /// Memory of its values in a row, where no list of any length is around it.
    pub(super) per_row: u64,
    pub(super) texts: bool,
}

/// The types in which columns are read: texts as views of the pages that they stand in, so that a text that comes a million times is held
/// once, and lists of any kind as lists.
pub(super) fn types_read(fields: &Fields) -> Fields {
    fields.iter().map(field_read).collect()
}

fn field_read(field: &Arc<Field>) -> Arc<Field> {
    let kind = type_read(field.data_type());
    Arc::new(field.as_ref().clone().with_data_type(kind))
}

pub(super) fn type_read(kind: &DataType) -> DataType {
    use DataType as T;
    match kind {
        T::Utf8 | T::LargeUtf8 => T::Utf8View,
        T::Binary | T::LargeBinary => T::BinaryView,
        T::Dictionary(_, value) => type_read(value),
        T::List(item) | T::ListView(item) => T::List(field_read(item)),
        T::LargeList(item) | T::LargeListView(item) => T::LargeList(field_read(item)),
        T::FixedSizeList(item, length) => T::FixedSizeList(field_read(item), *length),
        T::Struct(fields) => T::Struct(types_read(fields)),
        other => other.clone(),
    }
}

/// The leaves of the columns that are read. `payload` says which become JSON. `None` if the types and the leaves do not fit together.
pub(super) fn leaves(
    schema: &SchemaDescriptor,
    fields: &Fields,
    read: &[usize],
    payload: impl Fn(usize) -> bool,
) -> Option<Vec<Leaf>> {
    let mut leaves = Vec::new();
    for &root in read {
        let field = fields.get(root)?;
        let mut sizes = Vec::new();
        sizes_of(field.data_type(), false, 1, &mut sizes);
        let mut sizes = sizes.into_iter();
        for index in 0..schema.num_columns() {
            if schema.get_column_root_idx(index) != root {
                continue;
            }
            let (in_list, repeated) = sizes.next()?;
            let column = schema.column(index);
            let width = match column.physical_type() {
                Type::BOOLEAN => 1,
                Type::INT32 | Type::FLOAT => 4,
                Type::INT64 | Type::DOUBLE => 8,
                Type::INT96 => 12,
                Type::BYTE_ARRAY => 16,
                Type::FIXED_LEN_BYTE_ARRAY => u64::try_from(column.type_length()).ok()?,
            };
            let width = if payload(root) {
                width.max(VALUE_BYTES)
            } else {
                width
            };
            let memory = repeated.saturating_mul(width + LEVEL_BYTES);
            leaves.push(Leaf {
                index,
                // Lists of one length are lists in the file, and their values are counted like those of all lists.
                per_value: match (in_list, column.max_rep_level()) {
                    (true, _) => memory,
                    (false, 0) => 0,
                    (false, _) => width + LEVEL_BYTES,
                },
                per_row: if in_list { 0 } else { memory },
                texts: column.physical_type() == Type::BYTE_ARRAY,
            });
        }
        if sizes.next().is_some() {
            return None;
        }
    }
    Some(leaves)
}

/// Of each leaf, whether it is in a list of any length, and the product of the lengths of lists of one length around it.
fn sizes_of(kind: &DataType, in_list: bool, repeated: u64, out: &mut Vec<(bool, u64)>) {
    use DataType as T;
    match kind {
        T::List(item) | T::LargeList(item) | T::Map(item, _) => {
            sizes_of(item.data_type(), true, repeated, out);
        }
        T::FixedSizeList(item, length) => {
            let length = u64::try_from(*length).unwrap_or(0).max(1);
            let repeated = repeated.saturating_mul(length);
            sizes_of(item.data_type(), in_list, repeated, out);
        }
        T::Struct(fields) => {
            for field in fields {
                sizes_of(field.data_type(), in_list, repeated, out);
            }
        }
        _ => out.push((in_list, repeated)),
    }
}
