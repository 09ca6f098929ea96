//! The requests that migrations and galleries send.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::conditions::meets;
use super::points::{id_of, json_of, shown, vectors_of};
use super::strict::{Strict, check};
use super::{Collection, Id, State};

pub struct Answer {
    pub status: u16,
    pub result: Value,
    pub retry_after: Option<u32>,
}

struct Refused(u16, String, Option<u32>);

impl From<String> for Refused {
    fn from(problem: String) -> Self {
        Self(400, problem, None)
    }
}

impl From<&str> for Refused {
    fn from(problem: &str) -> Self {
        Self(400, problem.to_owned(), None)
    }
}

type Result<T> = std::result::Result<T, Refused>;

pub fn answer(state: &mut State, method: &str, target: &str, body: &Value) -> Answer {
    let path = target.split('?').next().unwrap();
    let parts: Vec<String> = path
        .trim_matches('/')
        .split('/')
        .map(|part| part.replace("%20", " "))
        .collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    match route(state, method, &parts, body) {
        Ok(result) => Answer {
            status: 200,
            result,
            retry_after: None,
        },
        Err(Refused(status, problem, retry_after)) => Answer {
            status,
            result: json!(problem),
            retry_after,
        },
    }
}

fn route(state: &mut State, method: &str, parts: &[&str], body: &Value) -> Result<Value> {
    match (method, parts) {
        ("GET", ["aliases"]) => {
            let aliases = state.aliases.iter();
            let aliases: Vec<Value> = aliases
                .map(|(alias, collection)| json!({"alias_name": alias, "collection_name": collection}))
                .collect();
            Ok(json!({"aliases": aliases}))
        }
        ("POST", ["collections", "aliases"]) => change_aliases(state, body),
        ("GET", ["collections"]) => {
            let names = state.collections.keys();
            let named: Vec<Value> = names.map(|name| json!({ "name": name })).collect();
            Ok(json!({ "collections": named }))
        }
        ("PUT", ["collections", name]) => create(state, name, body),
        ("DELETE", ["collections", name]) => {
            let there = state.collections.remove(*name).is_some();
            state
                .aliases
                .retain(|_, collection| collection.as_str() != *name);
            match there {
                true => Ok(json!(true)),
                false => Ok(json!(false)),
            }
        }
        (method, ["collections", name, rest @ ..]) => {
            let name = state
                .aliases
                .get(*name)
                .cloned()
                .unwrap_or((*name).to_owned());
            let busy = state.busy;
            let minute = state.minute.unwrap_or(Duration::from_secs(60));
            let collection = state.collections.get_mut(&name).ok_or_else(|| {
                Refused(
                    404,
                    format!("Not found: Collection `{name}` doesn't exist!"),
                    None,
                )
            })?;
            if method == "GET" && rest.is_empty() {
                state.busy = busy.saturating_sub(1);
                return Ok(described(collection, busy > 0));
            }
            check(collection, method, rest, body, minute)
                .map_err(|Strict(status, problem, after)| Refused(status, problem, after))?;
            within(collection, method, rest, body)
        }
        _ => Err(Refused(404, format!("{method} {parts:?}"), None)),
    }
}

fn described(collection: &Collection, busy: bool) -> Value {
    let schema: Map<String, Value> = collection
        .indexes
        .iter()
        .map(|(field, schema)| {
            let described = match schema {
                Value::Object(params) => {
                    json!({"data_type": params["type"], "params": params, "points": 0})
                }
                kind => json!({"data_type": kind, "points": 0}),
            };
            (field.clone(), described)
        })
        .collect();
    json!({
        "status": if busy { "yellow" } else { "green" },
        "optimizer_status": "ok",
        "points_count": collection.points.len(),
        "segments_count": 1,
        "config": collection.config,
        "payload_schema": schema,
    })
}

/// The parameters of a collection that are asked for, in the form in which a server describes them.
fn create(state: &mut State, name: &str, body: &Value) -> Result<Value> {
    if state.collections.contains_key(name) {
        return Err(Refused(
            409,
            format!("Wrong input: Collection `{name}` already exists!"),
            None,
        ));
    }
    if state.aliases.contains_key(name) {
        return Err(format!("Wrong input: alias {name} exists").into());
    }
    let mut params = body.as_object().ok_or("no object")?.clone();
    let mut config = Map::new();
    for (key, described) in [
        ("hnsw_config", "hnsw_config"),
        ("optimizers_config", "optimizer_config"),
        ("quantization_config", "quantization_config"),
        ("wal_config", "wal_config"),
        ("strict_mode_config", "strict_mode_config"),
    ] {
        config.insert(
            described.to_owned(),
            params.remove(key).unwrap_or(Value::Null),
        );
    }
    if config["strict_mode_config"].is_null() {
        config["strict_mode_config"] = state.strict.clone();
    }
    if params.contains_key("optimizer_config") {
        return Err("unknown field optimizer_config".into());
    }
    for factor in [
        "shard_number",
        "replication_factor",
        "write_consistency_factor",
    ] {
        params.entry(factor).or_insert(json!(1));
    }
    config.insert("params".to_owned(), Value::Object(params));
    let collection = Collection {
        config: Value::Object(config),
        ..Collection::default()
    };
    state.collections.insert(name.to_owned(), collection);
    Ok(json!(true))
}

/// All of them, or none.
fn change_aliases(state: &mut State, body: &Value) -> Result<Value> {
    let mut aliases = state.aliases.clone();
    for action in body["actions"].as_array().ok_or("no actions")? {
        if let Some(alias) = action["delete_alias"]["alias_name"].as_str() {
            aliases
                .remove(alias)
                .ok_or_else(|| Refused(404, format!("no alias {alias}"), None))?;
        }
        let made = &action["create_alias"];
        if let (Some(alias), Some(collection)) = (
            made["alias_name"].as_str(),
            made["collection_name"].as_str(),
        ) {
            if !state.collections.contains_key(collection) || state.collections.contains_key(alias)
            {
                return Err(Refused(
                    404,
                    format!("no collection {collection}, or {alias} is one"),
                    None,
                ));
            }
            aliases.insert(alias.to_owned(), collection.to_owned());
        }
    }
    state.aliases = aliases;
    Ok(json!(true))
}

fn within(collection: &mut Collection, method: &str, rest: &[&str], body: &Value) -> Result<Value> {
    let applied = || json!({"operation_id": 1, "status": "completed"});
    match (method, rest) {
        ("PATCH", []) => {
            let changes = body["optimizers_config"]
                .as_object()
                .ok_or("nothing to change")?;
            let config = &mut collection.config["optimizer_config"];
            if config.is_null() {
                *config = json!({});
            }
            for (key, value) in changes {
                config[key] = value.clone();
            }
            Ok(json!(true))
        }
        ("PUT", ["index"]) => {
            let field = body["field_name"].as_str().ok_or("no field")?;
            collection
                .indexes
                .insert(field.to_owned(), body["field_schema"].clone());
            Ok(applied())
        }
        ("PUT", ["points"]) => {
            for point in body["points"].as_array().ok_or("no points")? {
                collection.upsert(point)?;
            }
            Ok(applied())
        }
        ("POST", ["points"]) => {
            let mut points = Vec::new();
            for id in body["ids"].as_array().ok_or("no ids")? {
                let id = id_of(id)?;
                if let Some(point) = collection.points.get(&id) {
                    points.push(shown(&id, point, body));
                }
            }
            Ok(json!(points))
        }
        ("POST", ["points", "scroll"]) => scroll(collection, body),
        ("POST", ["points", "count"]) => {
            let count = chosen(collection, body)?.len();
            Ok(json!({"count": count}))
        }
        ("POST", ["points", "delete"]) => {
            for id in chosen(collection, body)? {
                collection.points.remove(&id);
                collection.writes += 1;
            }
            Ok(applied())
        }
        ("POST", ["points", "payload"]) => {
            let fields = body["payload"].as_object().ok_or("no payload")?.clone();
            for id in chosen(collection, body)? {
                let point = collection.points.get_mut(&id).unwrap();
                point.payload.extend(fields.clone());
                collection.writes += 1;
            }
            Ok(applied())
        }
        ("POST", ["points", "payload", "delete"]) => {
            let keys = body["keys"].as_array().ok_or("no keys")?.clone();
            for id in chosen(collection, body)? {
                let point = collection.points.get_mut(&id).unwrap();
                for key in keys.iter().filter_map(Value::as_str) {
                    point.payload.remove(key);
                }
                collection.writes += 1;
            }
            Ok(applied())
        }
        ("POST", ["points", "query"]) => query(collection, body),
        ("POST", ["points", "query", "batch"]) => {
            let searches = body["searches"].as_array().ok_or("no searches")?;
            let mut answers = Vec::new();
            for search in searches {
                answers.push(query(collection, search)?);
            }
            Ok(json!(answers))
        }
        _ => Err(Refused(404, format!("{method} {rest:?}"), None)),
    }
}

/// Points by id or by filter.
fn chosen(collection: &Collection, body: &Value) -> Result<Vec<Id>> {
    if let Some(ids) = body["points"].as_array() {
        let mut chosen = Vec::new();
        for id in ids {
            let id = id_of(id)?;
            if collection.points.contains_key(&id) {
                chosen.push(id);
            }
        }
        return Ok(chosen);
    }
    let mut chosen = Vec::new();
    for (id, point) in &collection.points {
        if meets(&body["filter"], id, point)? {
            chosen.push(id.clone());
        }
    }
    Ok(chosen)
}

fn scroll(collection: &Collection, body: &Value) -> Result<Value> {
    let limit = body["limit"].as_u64().ok_or("no limit")? as usize;
    if limit == 0 {
        return Err("limit must be above 0".into());
    }
    if let Some(order) = body["order_by"].as_object() {
        return ordered(collection, body, order, limit);
    }
    let from = match &body["offset"] {
        Value::Null => None,
        id => Some(id_of(id)?),
    };
    let mut points = Vec::new();
    let mut next = Value::Null;
    for (id, point) in &collection.points {
        if from.as_ref().is_some_and(|from| id < from) || !meets(&body["filter"], id, point)? {
            continue;
        }
        if points.len() == limit {
            next = json_of(id);
            break;
        }
        points.push(shown(id, point, body));
    }
    Ok(json!({"points": points, "next_page_offset": next}))
}

/// Points in the order of a number of their payloads; those without it are left out, and there is no next page.
fn ordered(
    collection: &Collection,
    body: &Value,
    order: &Map<String, Value>,
    limit: usize,
) -> Result<Value> {
    let key = order["key"].as_str().ok_or("no key to order by")?;
    if collection
        .indexes
        .get(key)
        .is_none_or(|kind| kind != "integer")
    {
        return Err(format!("Wrong input: No range index for `order_by` key: `{key}`").into());
    }
    if !body["offset"].is_null() {
        return Err("Cannot use an `offset` when using `order_by`".into());
    }
    let from = order.get("start_from").and_then(Value::as_f64);
    let mut found = Vec::new();
    for (id, point) in &collection.points {
        let Some(value) = point.payload.get(key).and_then(Value::as_f64) else {
            continue;
        };
        if from.is_none_or(|from| value >= from) && meets(&body["filter"], id, point)? {
            found.push((value, id, point));
        }
    }
    // Points of one value come in no order that a client may rely on.
    found.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(a.1)));
    let points = found.iter().take(limit);
    let points: Vec<Value> = points
        .map(|(_, id, point)| shown(id, point, body))
        .collect();
    Ok(json!({"points": points, "next_page_offset": null}))
}

fn query(collection: &Collection, body: &Value) -> Result<Value> {
    let name = body["using"].as_str().unwrap_or("");
    let vectors = vectors_of(&collection.config);
    let (size, distance) = vectors.get(name).ok_or("no such vector")?;
    let query = body["query"].as_array().ok_or("no query")?;
    let query: Vec<f64> = query.iter().filter_map(Value::as_f64).collect();
    if query.len() != *size {
        return Err(format!("Vector dimension error: expected dim: {size}").into());
    }
    let exact = body["params"]["exact"] == true;
    let mut hits: Vec<(f64, &Id)> = Vec::new();
    for (id, point) in &collection.points {
        let Some(values) = point.dense.get(name) else {
            continue;
        };
        if !exact && collection.unseen.contains(id) || !meets(&body["filter"], id, point)? {
            continue;
        }
        let both = values.iter().map(|&value| f64::from(value)).zip(&query);
        let score = match distance.as_str() {
            "Euclid" => both.map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt(),
            _ => -both.map(|(a, b)| a * b).sum::<f64>(),
        };
        hits.push((score, id));
    }
    // Equal scores come in no order that a client may rely on.
    hits.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(a.1)));
    let sign = if distance == "Euclid" { 1.0 } else { -1.0 };
    let limit = body["limit"].as_u64().ok_or("no limit")? as usize;
    let points: Vec<Value> = hits
        .iter()
        .take(limit)
        .map(|(score, id)| {
            let mut hit = shown(id, &collection.points[*id], body);
            hit["version"] = json!(0);
            // Servers compute in 32 bits.
            hit["score"] = json!((sign * score) as f32);
            hit
        })
        .collect();
    Ok(json!({"points": points}))
}
