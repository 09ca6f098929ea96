//! Filters: the conditions that migrations use.

use serde_json::Value;

use super::points::id_of;
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
        let value = point.payload.get(key).unwrap_or(&Value::Null);
        return Ok(value.is_null() || value.as_array().is_some_and(Vec::is_empty));
    }
    let key = condition["key"]
        .as_str()
        .ok_or_else(|| format!("unknown condition {condition}"))?;
    let value = point.payload.get(key).unwrap_or(&Value::Null);
    if let Some(wanted) = condition["match"].get("value") {
        return Ok(value == wanted);
    }
    if let Some(most) = condition["range"]["lt"].as_f64() {
        return Ok(value.as_f64().is_some_and(|value| value < most));
    }
    Err(format!("unknown condition {condition}"))
}
