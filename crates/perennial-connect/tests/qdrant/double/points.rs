//! Points in JSON, and back.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Collection, Id, Stored};

pub fn id_of(value: &Value) -> Result<Id, String> {
    match value {
        Value::Number(number) => number.as_u64().map(Id::Number),
        Value::String(text) if text.len() == 36 => Some(Id::Uuid(text.clone())),
        _ => None,
    }
    .ok_or_else(|| format!("{value} is not a valid point ID"))
}

pub fn json_of(id: &Id) -> Value {
    match id {
        Id::Number(number) => json!(number),
        Id::Uuid(text) => json!(text),
    }
}

/// Vectors of a collection by name, with size and distance.
pub fn vectors_of(config: &Value) -> BTreeMap<String, (usize, String)> {
    let params = &config["params"]["vectors"];
    let one = |params: &Value| {
        let size = params["size"].as_u64().unwrap() as usize;
        (size, params["distance"].as_str().unwrap().to_owned())
    };
    match params.get("size") {
        Some(_) => BTreeMap::from([(String::new(), one(params))]),
        None => {
            let named = params.as_object().unwrap();
            named
                .iter()
                .map(|(name, params)| (name.clone(), one(params)))
                .collect()
        }
    }
}

impl Collection {
    /// Inserts or replaces a point.
    pub fn upsert(&mut self, point: &Value) -> Result<(), String> {
        let id = id_of(&point["id"])?;
        let allowed = vectors_of(&self.config);
        let named = match &point["vector"] {
            Value::Array(_) => json!({"": point["vector"]}),
            Value::Object(_) => point["vector"].clone(),
            _ => return Err("a point without vectors".to_owned()),
        };
        let mut stored = Stored {
            payload: match &point["payload"] {
                Value::Null => Map::new(),
                payload => payload.as_object().ok_or("payload")?.clone(),
            },
            ..Stored::default()
        };
        for (name, value) in named.as_object().unwrap() {
            let Some((size, distance)) = allowed.get(name) else {
                if self.config["params"]["sparse_vectors"].get(name).is_none() {
                    return Err(format!("Not existing vector name error: {name}"));
                }
                stored.others.insert(name.clone(), value.clone());
                continue;
            };
            let values = value.as_array().ok_or("a dense vector that is none")?;
            let values: Option<Vec<f32>> = values
                .iter()
                .map(|value| value.as_f64().map(|value| value as f32))
                .collect();
            let mut values = values.ok_or("a value that is no number")?;
            if values.len() != *size {
                return Err(format!(
                    "Vector dimension error: expected dim: {size}, got {}",
                    values.len()
                ));
            }
            if distance == "Cosine" {
                let length = values.iter().map(|value| value * value).sum::<f32>().sqrt();
                if length > 0.0 {
                    values.iter_mut().for_each(|value| *value /= length);
                }
            }
            stored.dense.insert(name.clone(), values);
        }
        self.points.insert(id, stored);
        self.writes += 1;
        Ok(())
    }
}

/// The names of a path; those that hold a dot stand between quotation marks.
pub fn path_of(key: &str) -> Vec<String> {
    let (mut names, mut quoted) = (vec![String::new()], false);
    for c in key.chars() {
        match c {
            '"' => quoted = !quoted,
            '.' if !quoted => names.push(String::new()),
            c => names.last_mut().unwrap().push(c),
        }
    }
    names
}

/// What lies at a path.
pub fn at_path<'a>(payload: &'a Map<String, Value>, key: &str) -> &'a Value {
    let names = path_of(key);
    let first = payload.get(&names[0]).unwrap_or(&Value::Null);
    names[1..].iter().fold(first, |value, name| &value[name])
}

/// Adds what lies at a path, within the fields that lead to it.
fn project(from: &Map<String, Value>, path: &[String], to: &mut Map<String, Value>) {
    let Some(value) = from.get(&path[0]) else {
        return;
    };
    match (&path[1..], value) {
        ([], value) => {
            to.insert(path[0].clone(), value.clone());
        }
        (within, Value::Object(fields)) => {
            let inner = to.entry(path[0].clone()).or_insert_with(|| json!({}));
            project(fields, within, inner.as_object_mut().unwrap());
        }
        _ => {}
    }
}

/// A point as it is asked for.
pub fn shown(id: &Id, point: &Stored, body: &Value) -> Value {
    let mut shown = json!({"id": json_of(id)});
    let payload = match &body["with_payload"] {
        Value::Bool(true) => Some(point.payload.clone()),
        Value::Array(keys) => {
            let mut some = Map::new();
            for key in keys.iter().filter_map(Value::as_str) {
                project(&point.payload, &path_of(key), &mut some);
            }
            Some(some)
        }
        _ => None,
    };
    shown["payload"] = payload.map_or(Value::Null, Value::Object);
    let asked = |name: &str| match &body["with_vector"] {
        Value::Bool(all) => *all,
        Value::Array(names) => names.iter().any(|one| one == name),
        _ => false,
    };
    let mut vectors = Map::new();
    for (name, values) in &point.dense {
        if asked(name) {
            vectors.insert(name.clone(), json!(values));
        }
    }
    for (name, value) in &point.others {
        if asked(name) {
            vectors.insert(name.clone(), value.clone());
        }
    }
    match vectors.len() {
        0 => {}
        1 if vectors.contains_key("") => shown["vector"] = vectors[""].clone(),
        _ => shown["vector"] = Value::Object(vectors),
    }
    shown
}
