//! Ids as numbers that servers can sort by, and as texts that they can compare.
//!
//! A server gives points in the order of a payload field only where its values are numbers, so the bytes of a key are cut into pieces of six, each one
//! number of 51 bits, which a float holds exactly. Keys sort as the lists of their numbers.

use perennial_gallery::ItemId;
use perennial_gallery::id_key::id_key;
use sha2::{Digest, Sha256};

/// Bytes of a key in one number.
const PIECE: usize = 6;
/// The most numbers of a key. Keys that are equal so far are read and sorted here.
pub(super) const MAX_PIECES: usize = 16;

/// The numbers of an id, in the order of their weight. A number says how many bytes it has, so the start of a key comes before the key itself; where
/// it is full, another one follows.
pub(super) fn pieces(id: &ItemId) -> Vec<u64> {
    let key = id_key(id);
    let mut pieces = Vec::with_capacity(key.len() / PIECE + 1);
    let mut rest = key.as_slice();
    while pieces.len() < MAX_PIECES {
        let (piece, after) = rest.split_at(rest.len().min(PIECE));
        let mut bytes = [0; 8];
        bytes[2..2 + piece.len()].copy_from_slice(piece);
        pieces.push(u64::from_be_bytes(bytes) << 3 | piece.len() as u64);
        if piece.len() < PIECE {
            break;
        }
        rest = after;
    }
    pieces
}

/// The name of the payload field with a number.
pub(super) fn field(level: usize) -> String {
    format!("order_{level}")
}

/// An id as a text: a letter for its kind, and itself.
pub(super) fn key(id: &ItemId) -> String {
    match id {
        ItemId::Number(number) => format!("n{number}"),
        ItemId::Text(text) => format!("t{text}"),
    }
}

/// The id that a text stands for.
///
/// # Errors
/// What is wrong with a text that is none.
pub(super) fn id_of(key: &str) -> Result<ItemId, String> {
    let id = match key.split_at_checked(1) {
        Some(("n", number)) => {
            let number = number.parse().map_err(|_| "a numeric id is no number")?;
            ItemId::Number(number)
        }
        Some(("t", text)) => ItemId::Text(text.to_owned()),
        _ => return Err("an id is of unknown kind".to_owned()),
    };
    id.check().map_err(|error| error.to_string())?;
    Ok(id)
}

/// Where an id lies in the random order of samples, as a number that a float holds exactly.
pub(super) fn place(bytes: &[u8]) -> u64 {
    let digest = Sha256::digest(bytes);
    let first = digest.first_chunk().expect("a digest has 32 bytes");
    u64::from_be_bytes(*first) >> 16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids() -> impl Strategy<Value = ItemId> {
        prop_oneof![
            any::<u64>().prop_map(ItemId::Number),
            (0..300u64).prop_map(ItemId::Number),
            "[ab]{1,20}".prop_map(ItemId::Text),
            "[a-zäß/ ]{1,20}".prop_map(ItemId::Text),
        ]
    }

    proptest! {
        #[test]
        fn numbers_sort_as_ids(a in ids(), b in ids()) {
            prop_assert_eq!(pieces(&a).cmp(&pieces(&b)), a.cmp(&b));
            prop_assert_eq!(id_of(&key(&a)).unwrap(), a);
        }
    }

    #[test]
    fn a_long_id_has_a_bounded_number_of_them() {
        let long = ItemId::Text("x".repeat(1000));
        assert_eq!(pieces(&long).len(), MAX_PIECES);
        assert!(pieces(&long).iter().all(|&piece| piece < 1 << 53));
        // Six bytes with the letter of the kind: full, so an empty number follows.
        assert_eq!(pieces(&ItemId::Text("abcde".to_owned())).len(), 2);
        for bad in ["", "n", "nx", "x1", "t", "ä"] {
            assert!(id_of(bad).is_err(), "{bad}");
        }
    }
}
