//! Aliases: other names of collections, which move in one call.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::client::Client;
use crate::error::ConnectError;

#[derive(Deserialize)]
struct Aliases {
    aliases: Vec<Alias>,
}

#[derive(Deserialize)]
struct Alias {
    alias_name: String,
    collection_name: String,
}

/// All aliases, each with its collection.
pub(super) fn aliases(client: &Client) -> Result<BTreeMap<String, String>, ConnectError> {
    let found: Aliases = client.get("/aliases")?;
    Ok(found
        .aliases
        .into_iter()
        .map(|alias| (alias.alias_name, alias.collection_name))
        .collect())
}

/// Points an alias to a collection, whether it is there already or not. Whoever asks by it is answered by the one collection or by the other.
pub(super) fn point(client: &Client, alias: &str, collection: &str) -> Result<(), ConnectError> {
    let mut actions = Vec::new();
    if aliases(client)?.contains_key(alias) {
        actions.push(json!({"delete_alias": {"alias_name": alias}}));
    }
    actions.push(json!({"create_alias": {"alias_name": alias, "collection_name": collection}}));
    let body = json!({"actions": actions});
    client.send::<Value>("POST", "/collections/aliases", &body)?;
    match aliases(client)?.get(alias) {
        Some(found) if found == collection => Ok(()),
        found => Err(ConnectError::Connection {
            server: "the cluster".to_owned(),
            problem: format!(
                "alias {alias} leads to {} after it was moved to {collection}; somebody else moves it, or a node is behind",
                found.map_or("nothing", String::as_str)
            ),
        }),
    }
}
