//! Values as they travel: keys of any type as their bytes, vectors of pgvector, and rows of a binary `COPY`.

use bytes::{BufMut, Bytes, BytesMut};
use half::f16;
use tokio_postgres::types::{FromSql, IsNull, Kind, ToSql, Type, to_sql_checked};

use super::vector_type::VectorType;
use crate::error::ConnectError;

type AnyError = Box<dyn std::error::Error + Sync + Send>;

/// A value of any type in the server's binary form, borrowed from a row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Raw<'a>(pub(crate) &'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, AnyError> {
        Ok(Self(raw))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// A value of any type in the server's binary form: a key goes back as it came, whatever its type is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct RawValue(pub(crate) Vec<u8>);

impl ToSql for RawValue {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, AnyError> {
        out.put_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// An array of keys.
#[derive(Debug)]
pub(crate) struct KeyArray<'a>(pub(crate) &'a [RawValue]);

impl ToSql for KeyArray<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, AnyError> {
        let Kind::Array(element) = ty.kind() else {
            return Err(format!("{ty} is not an array").into());
        };
        // One dimension, no NULLs, the elements' type; the dimension's length and its lower bound.
        out.put_i32(1);
        out.put_i32(0);
        out.put_u32(element.oid());
        out.put_i32(i32::try_from(self.0.len())?);
        out.put_i32(1);
        for key in self.0 {
            out.put_i32(i32::try_from(key.0.len())?);
            out.put_slice(&key.0);
        }
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        matches!(ty.kind(), Kind::Array(_))
    }

    to_sql_checked!();
}

/// A vector as a parameter of type `vector`, or in an array of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct VectorValue<'a>(pub(crate) &'a [f32]);

impl ToSql for VectorValue<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, AnyError> {
        put_vector(VectorType::Vector, self.0, out)?;
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        ty.name() == VectorType::Vector.name()
    }

    to_sql_checked!();
}

/// A transaction id.
///
/// # Errors
/// Bytes that are none.
pub(crate) fn transaction_id(raw: Raw<'_>) -> Result<u32, ConnectError> {
    let bytes: [u8; 4] = raw
        .0
        .try_into()
        .map_err(|_| ConnectError::Value("a transaction id that is none".to_owned()))?;
    Ok(u32::from_be_bytes(bytes))
}

/// Appends a vector's values; returns how many there are.
///
/// # Errors
/// Bytes that are no vector.
pub(crate) fn read_vector(
    kind: VectorType,
    raw: &[u8],
    out: &mut Vec<f32>,
) -> Result<usize, ConnectError> {
    let damaged =
        || ConnectError::Value(format!("{} bytes that are no {}", raw.len(), kind.name()));
    // Dimensions, and two bytes that are not used.
    let (head, values) = raw.split_at_checked(4).ok_or_else(damaged)?;
    let dim = usize::from(u16::from_be_bytes([head[0], head[1]]));
    if values.len() != dim * kind.value_bytes() {
        return Err(damaged());
    }
    match kind {
        VectorType::Vector => out.extend(
            values
                .as_chunks()
                .0
                .iter()
                .map(|&bytes| f32::from_be_bytes(bytes)),
        ),
        VectorType::HalfVec => out.extend(
            values
                .as_chunks()
                .0
                .iter()
                .map(|&bytes| f16::from_be_bytes(bytes).to_f32()),
        ),
    }
    Ok(dim)
}

/// Appends a vector as the server sends and takes it.
///
/// # Errors
/// More dimensions than a vector can have.
pub(crate) fn put_vector(
    kind: VectorType,
    vector: &[f32],
    out: &mut BytesMut,
) -> Result<(), ConnectError> {
    let dim = u16::try_from(vector.len()).map_err(|_| {
        ConnectError::State(format!(
            "{} dimensions are more than pgvector stores",
            vector.len()
        ))
    })?;
    out.put_u16(dim);
    out.put_u16(0);
    let start = out.len();
    out.resize(start + vector.len() * kind.value_bytes(), 0);
    let bytes = &mut out[start..];
    match kind {
        VectorType::Vector => {
            // Arrays and no slices, so that the compiler turns many values at once.
            for (bytes, value) in bytes.as_chunks_mut().0.iter_mut().zip(vector) {
                *bytes = value.to_be_bytes();
            }
        }
        VectorType::HalfVec => {
            for (bytes, &value) in bytes.as_chunks_mut().0.iter_mut().zip(vector) {
                *bytes = f16::from_f32(value).to_be_bytes();
            }
        }
    }
    Ok(())
}

/// Rows of a binary `COPY`: key, transaction id, vector.
pub(crate) struct CopyRows {
    buffer: BytesMut,
    kind: VectorType,
}

impl CopyRows {
    /// Fields of a row.
    const FIELDS: i16 = 3;

    pub(crate) fn new(kind: VectorType) -> Self {
        let mut buffer = BytesMut::with_capacity(1 << 20);
        buffer.put_slice(b"PGCOPY\n\xff\r\n\0");
        // No flags, no extension of the header.
        buffer.put_i32(0);
        buffer.put_i32(0);
        Self { buffer, kind }
    }

    /// Adds a row. The transaction id is the one that wrote the source's row.
    ///
    /// # Errors
    /// A key or vector too long for a field.
    pub(crate) fn push(
        &mut self,
        key: &RawValue,
        source: u32,
        vector: &[f32],
    ) -> Result<(), ConnectError> {
        let too_long = |_| ConnectError::State("a value is too long to be copied".to_owned());
        self.buffer.put_i16(Self::FIELDS);
        self.buffer
            .put_i32(i32::try_from(key.0.len()).map_err(too_long)?);
        self.buffer.put_slice(&key.0);
        self.buffer.put_i32(4);
        self.buffer.put_u32(source);
        let bytes = 4 + vector.len() * self.kind.value_bytes();
        self.buffer.put_i32(i32::try_from(bytes).map_err(too_long)?);
        put_vector(self.kind, vector, &mut self.buffer)
    }

    /// What has been collected so far, once it is worth sending.
    pub(crate) fn full(&mut self) -> Option<Bytes> {
        (self.buffer.len() >= 1 << 18).then(|| self.buffer.split().freeze())
    }

    /// The rest, with the mark of the end.
    pub(crate) fn finish(mut self) -> Bytes {
        self.buffer.put_i16(-1);
        self.buffer.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_read_as_they_are_written() {
        for (kind, wanted) in [
            (VectorType::Vector, [1.0, -2.5, 1e-3]),
            (VectorType::HalfVec, [1.0, -2.5, 0.001_000_404_4]),
        ] {
            let mut rows = CopyRows::new(kind);
            rows.push(&RawValue(b"k".to_vec()), 7, &[1.0, -2.5, 1e-3])
                .unwrap();
            let bytes = rows.finish();
            // Header, number of fields, key, transaction id, length of the vector.
            let at = 19 + 2 + (4 + 1) + (4 + 4) + 4;
            let vector = &bytes[at..bytes.len() - 2];
            let mut read = Vec::new();
            assert_eq!(read_vector(kind, vector, &mut read).unwrap(), 3);
            assert_eq!(read, wanted);
            assert!(read_vector(kind, &vector[1..], &mut read).is_err());
            assert!(read_vector(kind, &[], &mut read).is_err());
        }
    }

    #[test]
    fn arrays_carry_the_type_of_their_elements() {
        let keys = [RawValue(vec![0, 0, 0, 1]), RawValue(vec![0, 0, 0, 2])];
        let mut out = BytesMut::new();
        KeyArray(&keys).to_sql(&Type::INT4_ARRAY, &mut out).unwrap();
        assert_eq!(&out[8..12], Type::INT4.oid().to_be_bytes());
        assert_eq!(out.len(), 20 + 2 * 8);
        assert!(KeyArray(&keys).to_sql(&Type::INT4, &mut out).is_err());
    }
}
