//! The types of numbers that arrays hold.

use half::{bf16, f16};
use perennial_core::ItemId;

use crate::label::Label;

/// A type of floating-point numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Float {
    F16,
    Bf16,
    F32,
    F64,
}

/// A type of integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Integer {
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
}

/// The order of the bytes of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Little,
    Big,
}

impl Float {
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    /// Adds whole numbers to `out`. Doubles are rounded; those too large for f32 become infinite, which is refused later, by row.
    pub(crate) fn decode(self, bytes: &[u8], order: Order, out: &mut Vec<f32>) {
        match self {
            Self::F16 => decode(bytes, order, out, |b| f16::from_le_bytes(b).to_f32()),
            Self::Bf16 => decode(bytes, order, out, |b| bf16::from_le_bytes(b).to_f32()),
            Self::F32 => decode(bytes, order, out, f32::from_le_bytes),
            Self::F64 => decode(bytes, order, out, |b| f64::from_le_bytes(b) as f32),
        }
    }
}

impl Integer {
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::I8 | Self::U8 => 1,
            Self::I16 | Self::U16 => 2,
            Self::I32 | Self::U32 => 4,
            Self::I64 | Self::U64 => 8,
        }
    }

    /// Adds whole numbers to `out`. Every type fits in `i128`, so that range checks need no case per type.
    pub(crate) fn decode(self, bytes: &[u8], order: Order, out: &mut Vec<i128>) {
        match self {
            Self::I8 => decode(bytes, order, out, |b| i8::from_le_bytes(b).into()),
            Self::I16 => decode(bytes, order, out, |b| i16::from_le_bytes(b).into()),
            Self::I32 => decode(bytes, order, out, |b| i32::from_le_bytes(b).into()),
            Self::I64 => decode(bytes, order, out, |b| i64::from_le_bytes(b).into()),
            Self::U8 => decode(bytes, order, out, |b| u8::from_le_bytes(b).into()),
            Self::U16 => decode(bytes, order, out, |b| u16::from_le_bytes(b).into()),
            Self::U32 => decode(bytes, order, out, |b| u32::from_le_bytes(b).into()),
            Self::U64 => decode(bytes, order, out, |b| u64::from_le_bytes(b).into()),
        }
    }
}

fn decode<T, const N: usize>(
    bytes: &[u8],
    order: Order,
    out: &mut Vec<T>,
    from_le: impl Fn([u8; N]) -> T,
) {
    let (numbers, _) = bytes.as_chunks::<N>();
    match order {
        Order::Little => out.extend(numbers.iter().map(|&number| from_le(number))),
        Order::Big => out.extend(numbers.iter().map(|&(mut number)| {
            number.reverse();
            from_le(number)
        })),
    }
}

/// An integer as an id.
pub(crate) fn item_id(row: u64, value: i128) -> Result<ItemId, String> {
    u64::try_from(value)
        .map(ItemId::Number)
        .map_err(|_| format!("the id of row {row} is {value}; ids are numbers from 0, or texts"))
}

/// An integer as a label.
pub(crate) fn label(row: u64, value: i128) -> Result<Label, String> {
    i64::try_from(value).map(Label::Number).map_err(|_| {
        format!("the label of row {row} is {value}, which is larger than 64 signed bits hold")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_all_types_are_decoded() {
        let mut floats = Vec::new();
        Float::F16.decode(&[0x00, 0x3e], Order::Little, &mut floats);
        Float::F16.decode(&[0x3e, 0x00], Order::Big, &mut floats);
        Float::Bf16.decode(&1.5_f32.to_le_bytes()[2..], Order::Little, &mut floats);
        Float::F32.decode(&1.5_f32.to_be_bytes(), Order::Big, &mut floats);
        Float::F64.decode(&1.5_f64.to_le_bytes(), Order::Little, &mut floats);
        assert_eq!(floats, [1.5; 5]);
        let mut integers = Vec::new();
        Integer::I8.decode(&[255], Order::Little, &mut integers);
        Integer::U16.decode(&[1, 2], Order::Big, &mut integers);
        Integer::U64.decode(&[255; 8], Order::Little, &mut integers);
        assert_eq!(integers, [-1, 258, i128::from(u64::MAX)]);
        assert!(item_id(0, -1).is_err() && label(0, i128::from(u64::MAX)).is_err());
    }
}
