//! Filters: the conditions that migrations and galleries use.

use serde_json::Value;

use super::points::{at_path, id_of};
use super::{Id, Stored};

/// Whether a point meets a filter.
pub fn meets(filter: &Value, id: &Id, point: &Stored) -> Result<bool, String> {
    if filter.is_null() {
        return Ok(true);
    }
    let object = filter.as_object().ok_or("a filter that is no object")?;
    for (clause, conditions) in object {
        let conditions = conditions.as_array().ok_or("a clause that is no list")?;
        let mut met = Vec::new();
        for condition in conditions {
            met.push(one(condition, id, point)?);
        }
        let holds = match clause.as_str() {
            "must" => met.iter().all(|&met| met),
            "must_not" => met.iter().all(|&met| !met),
            "should" => met.is_empty() || met.iter().any(|&met| met),
            other => return Err(format!("unknown clause {other}")),
        };
        if !holds {
            return Ok(false);
        }
    }
    Ok(true)
}

fn one(condition: &Value, id: &Id, point: &Stored) -> Result<bool, String> {
    let clauses = ["must", "must_not", "should"];
    if clauses.iter().any(|clause| condition.get(clause).is_some()) {
        return meets(condition, id, point);
    }
    if let Some(ids) = condition["has_id"].as_array() {
        for other in ids {
            if id_of(other)? == *id {
                return Ok(true);
            }
        }
        return Ok(false);
    }
    if let Some(name) = condition["has_vector"].as_str() {
        return Ok(point.dense.contains_key(name) || point.others.contains_key(name));
    }
    if let Some(key) = condition["is_empty"]["key"].as_str() {
        let value = at_path(&point.payload, key);
        return Ok(value.is_null() || value.as_array().is_some_and(Vec::is_empty));
    }
    let key = condition["key"]
        .as_str()
        .ok_or_else(|| format!("unknown condition {condition}"))?;
    let value = at_path(&point.payload, key);
    // Of a list, one value has to meet the condition.
    let values = match value {
        Value::Array(values) => values.as_slice(),
        value => std::slice::from_ref(value),
    };
    if let Some(wanted) = condition["match"].get("value") {
        if wanted.is_null() || wanted.is_f64() || wanted.is_array() || wanted.is_object() {
            return Err(format!(
                "data did not match any variant of untagged enum Match: {condition}"
            ));
        }
        return Ok(values.contains(wanted));
    }
    if let Some(any) = condition["match"].get("any") {
        let any = any.as_array().ok_or("match.any is no list")?;
        let is_one_kind =
            any.iter().all(Value::is_string) || any.iter().all(|one| one.is_i64() || one.is_u64());
        if !is_one_kind {
            return Err(format!(
                "data did not match any variant of untagged enum AnyVariants: {condition}"
            ));
        }
        return Ok(values.iter().any(|value| any.contains(value)));
    }
    if let Some(range) = condition["range"].as_object() {
        for (bound, limit) in range {
            if !["lt", "lte", "gt", "gte"].contains(&bound.as_str()) || !limit.is_number() {
                return Err(format!("unknown range {bound} {limit}"));
            }
        }
        // Servers compare as floats.
        let within = |value: &Value| {
            value.as_f64().is_some_and(|value| {
                range.iter().all(|(bound, limit)| {
                    let limit = limit.as_f64().unwrap();
                    match bound.as_str() {
                        "lt" => value < limit,
                        "lte" => value <= limit,
                        "gt" => value > limit,
                        _ => value >= limit,
                    }
                })
            })
        };
        return Ok(values.iter().any(within));
    }
    Err(format!("unknown condition {condition}"))
}
