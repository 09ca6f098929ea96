//! In what two configurations differ.

use std::collections::BTreeSet;

use serde::Serialize;
use toml::{Table, Value};

use crate::configuration::to_toml;

/// The first key in which two configurations differ, with both values; none where they are equal.
///
/// # Errors
/// A configuration that TOML cannot hold.
pub fn of<C: Serialize + PartialEq>(then: &C, now: &C) -> anyhow::Result<Option<String>> {
    if then == now {
        return Ok(None);
    }
    let table =
        |config: &C| Ok::<_, anyhow::Error>(Value::Table(to_toml(config)?.parse::<Table>()?));
    Ok(Some(between(&table(then)?, &table(now)?)))
}

fn between(then: &Value, now: &Value) -> String {
    fn find(then: Option<&Value>, now: Option<&Value>, key: &str) -> Option<String> {
        if then == now {
            return None;
        }
        if let (Some(Value::Table(a)), Some(Value::Table(b))) = (then, now) {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            return keys.into_iter().find_map(|name| {
                let inner = match key {
                    "" => name.clone(),
                    _ => format!("{key}.{name}"),
                };
                find(a.get(name), b.get(name), &inner)
            });
        }
        let show = |value: Option<&Value>| value.map_or("none".to_owned(), Value::to_string);
        Some(format!("{key}: {} then, {} now", show(then), show(now)))
    }
    find(Some(then), Some(now), "").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::between;

    #[test]
    fn the_first_difference_is_named() {
        let table = |text: &str| toml::Value::Table(text.parse().unwrap());
        let found = between(
            &table("a = 1\n[training]\nepochs = 10\n"),
            &table("a = 1\n[training]\nepochs = 20\n"),
        );
        assert_eq!(found, "training.epochs: 10 then, 20 now");
        let found = between(&table("a = 1\n"), &table("b = 1\n"));
        assert_eq!(found, "a: 1 then, none now");
    }
}
