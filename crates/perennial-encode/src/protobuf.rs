//! Protocol buffers, written: fields appended to a message. Reading is in `onnx/wire.rs`.

/// Appends a field of bytes, a text or a message to a message.
pub(crate) fn put_bytes(message: &mut Vec<u8>, field: u64, content: &[u8]) {
    put_length(message, field, content.len());
    message.extend_from_slice(content);
}

/// Appends what is in front of the bytes of such a field.
pub(crate) fn put_length(message: &mut Vec<u8>, field: u64, bytes: usize) {
    put_varint(message, field << 3 | 2);
    put_varint(message, bytes as u64);
}

/// Appends a field of a number.
pub(crate) fn put_number(message: &mut Vec<u8>, field: u64, value: u64) {
    put_varint(message, field << 3);
    put_varint(message, value);
}

/// Appends a field of a floating-point number.
pub(crate) fn put_float(message: &mut Vec<u8>, field: u64, value: f32) {
    put_varint(message, field << 3 | 5);
    message.extend_from_slice(&value.to_le_bytes());
}

/// Appends a number of variable length.
fn put_varint(message: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}
