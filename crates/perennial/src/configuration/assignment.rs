//! Values that are set by key: `training.epochs=5`.

use toml::{Table, Value};

/// Parses TOML value syntax; any other text is a bare string.
pub fn parse_value(text: &str) -> Value {
    let bare = || Value::String(text.to_owned());
    match format!("value = {text}").parse::<Table>() {
        Ok(mut table) if table.len() == 1 => match table.remove("value") {
            // No key holds a date, so 2026-11-22 is a name.
            None | Some(Value::Datetime(_)) => bare(),
            Some(value) => value,
        },
        _ => bare(),
    }
}

/// Puts a value where a key leads, through tables and arrays.
pub(super) fn assign(table: &mut Table, parts: &[&str], value: Value) -> Result<(), String> {
    let [first, rest @ ..] = parts else {
        return Err("there is no key".to_owned());
    };
    if rest.is_empty() {
        table.insert((*first).to_owned(), value);
        return Ok(());
    }
    let inner = table
        .entry(*first)
        .or_insert_with(|| Value::Table(Table::new()));
    assign_inside(inner, first, rest, value)
}

fn assign_inside(
    outer: &mut Value,
    name: &str,
    parts: &[&str],
    value: Value,
) -> Result<(), String> {
    match outer {
        Value::Table(table) => assign(table, parts, value),
        Value::Array(items) => {
            let count = items.len();
            let (index, rest) = (parts[0], &parts[1..]);
            let item = index
                .parse::<usize>()
                .ok()
                .and_then(|index| items.get_mut(index))
                .ok_or_else(|| {
                    format!("`{name}` has {count} elements, numbered from 0, and no `{index}`")
                })?;
            if rest.is_empty() {
                *item = value;
                return Ok(());
            }
            assign_inside(item, index, rest, value)
        }
        _ => Err(format!(
            "`{name}` is a single value, it has no `{}`",
            parts[0]
        )),
    }
}
