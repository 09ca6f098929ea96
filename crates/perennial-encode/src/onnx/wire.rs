//! Protocol buffers, read in place: fields of a message without a copy and without a schema. Writing is in `protobuf.rs` of the crate.

/// One field of a message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    /// A number of variable length.
    Number(u64),
    /// Text, bytes or a message within the message.
    Bytes(&'a [u8]),
    /// Four or eight bytes of another kind of number; nothing here needs them.
    Fixed,
}

/// The bytes are no message: they end early, or hold a field of no known kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// A field's number and value, and its own bytes with the key in front of them.
pub(super) type Whole<'a> = (u64, Value<'a>, &'a [u8]);

/// The fields of a message, one after the other.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn of(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// The next field with its bytes.
    pub(super) fn next_whole(&mut self) -> Option<Result<Whole<'a>, Malformed>> {
        let before = self.rest;
        let field = self.next()?;
        Some(field.map(|(field, value)| {
            let (whole, _) = before.split_at(before.len() - self.rest.len());
            (field, value, whole)
        }))
    }

    fn take(&mut self, bytes: u64) -> Result<&'a [u8], Malformed> {
        let bytes = usize::try_from(bytes).map_err(|_| Malformed)?;
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    fn field(&mut self) -> Result<(u64, Value<'a>), Malformed> {
        let key = number(&mut self.rest)?;
        let value = match key & 7 {
            0 => Value::Number(number(&mut self.rest)?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let bytes = number(&mut self.rest)?;
                Value::Bytes(self.take(bytes)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return Err(Malformed),
        };
        Ok((key >> 3, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// A number of variable length at the front of `rest`.
fn number(rest: &mut &[u8]) -> Result<u64, Malformed> {
    let mut value = 0_u64;
    for position in 0..10 {
        let (&byte, after) = rest.split_first().ok_or(Malformed)?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << (7 * position);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Malformed)
}

/// A repeated number: one field for each, or all of them packed into one.
pub(super) fn numbers(value: Value<'_>, into: &mut Vec<i64>) -> Result<(), Malformed> {
    match value {
        Value::Number(number) => into.push(number as i64),
        Value::Bytes(mut packed) => {
            while !packed.is_empty() {
                into.push(number(&mut packed)? as i64);
            }
        }
        Value::Fixed => return Err(Malformed),
    }
    Ok(())
}

/// How many numbers a repeated field holds, without keeping them.
pub(super) fn count(value: Value<'_>) -> u64 {
    match value {
        Value::Number(_) | Value::Fixed => 1,
        // The last byte of a number has no continuation bit.
        Value::Bytes(packed) => packed.iter().filter(|byte| *byte & 0x80 == 0).count() as u64,
    }
}

/// The bytes of a field that must hold some.
pub(super) fn bytes(value: Value<'_>) -> Result<&[u8], Malformed> {
    match value {
        Value::Bytes(bytes) => Ok(bytes),
        _ => Err(Malformed),
    }
}

/// The text of a field that must hold one.
pub(super) fn text(value: Value<'_>) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes(value)?).map_err(|_| Malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protobuf::{put_bytes, put_number};

    proptest! {
        #[test]
        fn what_is_written_is_read(field in 1..1_000_u64, content in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut message = Vec::new();
            put_bytes(&mut message, field, &content);
            put_number(&mut message, field, u64::MAX - field);
            let fields: Vec<_> = Fields::of(&message).collect();
            prop_assert_eq!(fields, vec![Ok((field, Value::Bytes(&content))), Ok((field, Value::Number(u64::MAX - field)))]);
        }

        #[test]
        fn the_bytes_of_all_fields_are_the_message(contents in prop::collection::vec((1..1_000_u64, prop::collection::vec(any::<u8>(), 0..30)), 0..5)) {
            let mut message = Vec::new();
            for (field, content) in &contents {
                put_bytes(&mut message, *field, content);
                put_number(&mut message, *field, content.len() as u64);
            }
            let (mut fields, mut copy) = (Fields::of(&message), Vec::new());
            while let Some(field) = fields.next_whole() {
                copy.extend_from_slice(field.unwrap().2);
            }
            prop_assert_eq!(copy, message);
        }

        #[test]
        fn no_bytes_are_read_past_the_end(message in prop::collection::vec(any::<u8>(), 0..200)) {
            // Ends, whatever the bytes are.
            prop_assert!(Fields::of(&message).count() <= message.len());
        }
    }
}
