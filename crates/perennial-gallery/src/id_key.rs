//! Ids as keys of databases.

use perennial_core::ItemId;

/// Leads the key of a number; the bytes of keys are ordered as ids are.
const NUMBER: u8 = 0;
/// Leads the key of a text.
const TEXT: u8 = 1;

/// An id as a key whose bytes sort as ids do: `0` and eight bytes, most significant first, or `1` and a text.
pub fn id_key(id: &ItemId) -> Vec<u8> {
    match id {
        ItemId::Number(number) => [&[NUMBER][..], &number.to_be_bytes()].concat(),
        ItemId::Text(text) => [&[TEXT][..], text.as_bytes()].concat(),
    }
}

/// The id that a key stands for.
///
/// # Errors
/// What is wrong with bytes that are no key.
pub fn key_id(key: &[u8]) -> Result<ItemId, String> {
    let id = match key.split_first() {
        Some((&NUMBER, number)) => {
            let number = number.try_into().map_err(|_| "a numeric id is cut off")?;
            ItemId::Number(u64::from_be_bytes(number))
        }
        Some((&TEXT, text)) => {
            let text = std::str::from_utf8(text).map_err(|_| "an id is not UTF-8")?;
            ItemId::Text(text.to_owned())
        }
        _ => return Err("an id is of unknown kind".to_owned()),
    };
    id.check().map_err(|error| error.to_string())?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids() -> impl Strategy<Value = ItemId> {
        prop_oneof![
            any::<u64>().prop_map(ItemId::Number),
            "[a-zäß/ ]{1,20}".prop_map(ItemId::Text),
        ]
    }

    proptest! {
        #[test]
        fn keys_sort_as_ids(a in ids(), b in ids()) {
            prop_assert_eq!(id_key(&a).cmp(&id_key(&b)), a.cmp(&b));
            prop_assert_eq!(key_id(&id_key(&a)).unwrap(), a);
        }
    }
}
