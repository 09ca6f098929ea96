//! Strict mode, as servers from 1.13 on have it: what it refuses, in their words, and rates.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::Collection;

/// A refusal: status, what is said, and after how many seconds to come again.
pub struct Strict(pub u16, pub String, pub Option<u32>);

/// Refuses what the collection's strict mode refuses. `minute` is how long a minute lasts here.
pub fn check(
    collection: &mut Collection,
    method: &str,
    rest: &[&str],
    body: &Value,
    minute: Duration,
) -> Result<(), Strict> {
    let config = collection.config["strict_mode_config"].clone();
    if config["enabled"] != true {
        return Ok(());
    }
    let number = |key: &str| config[key].as_u64();
    let bad = |text: String| Err(Strict(400, format!("Bad request: {text}"), None));
    let most = |value: u64, limit: Option<u64>, name: &str| match limit {
        Some(limit) if value > limit => bad(format!(
            "Limit exceeded {value} > {limit} for \"{name}\". Help: Reduce the \"{name}\" parameter to or below {limit}."
        )),
        _ => Ok(()),
    };
    let points = || body["points"].as_array().map_or(0, Vec::len) as u64;
    // A read costs one and its conditions, points by id as many as they are, and a write as many as it writes.
    let (kind, cost) = match (method, rest) {
        ("POST", ["points"]) => ("Read", body["ids"].as_array().map_or(0, Vec::len) as u64),
        ("POST", ["points", "scroll" | "query" | "count"]) => {
            ("Read", 1 + conditions(&body["filter"]))
        }
        (_, ["points", ..]) => ("Write", points().max(1)),
        _ => return Ok(()),
    };
    match (method, rest) {
        ("POST", ["points", "scroll" | "query"]) => {
            most(
                body["limit"].as_u64().unwrap_or(10),
                number("max_query_limit"),
                "limit",
            )?;
        }
        ("PUT", ["points"]) => {
            most(points(), number("upsert_max_batchsize"), "upsert limit")?;
            let bytes: usize = collection
                .points
                .values()
                .flat_map(|point| point.dense.values())
                .map(|values| 4 * values.len())
                .sum();
            if let Some(limit) = number("max_collection_vector_size_bytes")
                && bytes as u64 >= limit
            {
                let limit = limit as f32 / (1024.0 * 1024.0);
                return bad(format!(
                    "Max vector storage size limit of {limit}MB reached!"
                ));
            }
        }
        _ => {}
    }
    let unindexed = match kind {
        "Read" => "unindexed_filtering_retrieve",
        _ => "unindexed_filtering_update",
    };
    if let Some(limit) = number("condition_max_size") {
        let largest = largest(&body["filter"]);
        if largest > limit {
            return bad(format!(
                "Condition size limit reached ({largest} > {limit}). Help: Reduce the size of your condition."
            ));
        }
    }
    if config[unindexed] == false {
        for key in keys(&body["filter"]) {
            if !collection.indexes.contains_key(&key) {
                return bad(format!(
                    "Index required but not found for \"{key}\" of one of the following types: [keyword]. Help: Create an index for this key or use a \
                     different filter."
                ));
            }
        }
    }
    let exact = body["exact"] == true || body["params"]["exact"] == true;
    if exact && config["search_allow_exact"] == false {
        return bad("Exact search disabled!. Help: Set exact=false.".to_owned());
    }
    let limit = match kind {
        "Read" => number("read_rate_limit"),
        _ => number("write_rate_limit"),
    };
    let Some(limit) = limit else {
        return Ok(());
    };
    let refused = |text: String, after| {
        let text = format!("Rate limiting exceeded: {kind} rate limit exceeded{text}");
        Err(Strict(429, text, after))
    };
    if cost > limit {
        let text = ", request larger than rate limiter capacity, please try to split your request";
        return refused(text.to_owned(), None);
    }
    let now = Instant::now();
    let bucket = collection.tokens.entry(kind).or_insert((limit as f64, now));
    let per_second = limit as f64 / minute.as_secs_f64();
    let full = bucket.0 + (now - bucket.1).as_secs_f64() * per_second;
    *bucket = (full.min(limit as f64), now);
    let lacking = cost as f64 - bucket.0;
    if lacking > 0.0 {
        let after = (lacking / per_second).ceil() as u32;
        let text = format!(
            ": Operation requires {cost} tokens but only {:.1} were available. Retry after {after}s",
            bucket.0
        );
        return refused(text, Some(after));
    }
    bucket.0 -= cost as f64;
    Ok(())
}

fn all(filter: &Value) -> Vec<&Value> {
    let clauses = filter.as_object().into_iter().flatten();
    clauses
        .flat_map(|(_, conditions)| conditions.as_array().into_iter().flatten())
        .collect()
}

fn conditions(filter: &Value) -> u64 {
    all(filter).len() as u64
}

fn largest(filter: &Value) -> u64 {
    let sizes = all(filter)
        .into_iter()
        .filter_map(|condition| condition["has_id"].as_array().map(Vec::len));
    sizes.max().unwrap_or(0) as u64
}

fn keys(filter: &Value) -> Vec<String> {
    all(filter)
        .into_iter()
        .filter_map(|condition| {
            let key = condition["key"].as_str();
            key.or(condition["is_empty"]["key"].as_str())
        })
        .map(str::to_owned)
        .collect()
}
