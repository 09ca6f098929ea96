//! Writing points: bodies of a bounded size, applied before the answer.

use serde_json::{Value, json};

use super::client::{Client, collection_path};
use super::failure::Failure;
use super::mark::FIELD;
use super::point::Carried;
use super::point_id::PointId;
use super::points_body::{Applied, Points, applied_or};
use crate::error::ConnectError;

/// Through the leader of a shard, and applied before the answer.
const WAIT: &str = "wait=true&ordering=medium";

/// Writes copies: a point with the new vector, its payload, its mark, and its other vectors.
pub(super) fn upsert<'a>(
    client: &Client,
    collection: &str,
    vector_name: &str,
    copies: impl Iterator<Item = (&'a PointId, &'a Carried, &'a [f32])>,
) -> Result<(), ConnectError> {
    let path = format!("{}/points?{WAIT}", collection_path(collection));
    let mut points = Points::default();
    for (id, carried, vector) in copies {
        put(points.next(), vector_name, id, carried, vector)?;
        if points.are_enough(client) {
            points.send(client, &path)?;
        }
    }
    Ok(points.send(client, &path)?)
}

fn put(
    body: &mut Vec<u8>,
    vector_name: &str,
    id: &PointId,
    carried: &Carried,
    vector: &[f32],
) -> Result<(), ConnectError> {
    let written = |error: serde_json::Error| ConnectError::State(error.to_string());
    body.extend_from_slice(b"{\"id\":");
    serde_json::to_writer(&mut *body, id).map_err(written)?;
    body.extend_from_slice(b",\"vector\":");
    if vector_name.is_empty() && carried.others.is_empty() {
        serde_json::to_writer(&mut *body, vector).map_err(written)?;
    } else {
        body.push(b'{');
        serde_json::to_writer(&mut *body, vector_name).map_err(written)?;
        body.push(b':');
        serde_json::to_writer(&mut *body, vector).map_err(written)?;
        for (name, value) in &carried.others {
            body.push(b',');
            serde_json::to_writer(&mut *body, name).map_err(written)?;
            body.push(b':');
            body.extend_from_slice(value.get().as_bytes());
        }
        body.push(b'}');
    }
    body.extend_from_slice(b",\"payload\":{");
    for (name, value) in &carried.payload {
        serde_json::to_writer(&mut *body, name).map_err(written)?;
        body.push(b':');
        body.extend_from_slice(value.get().as_bytes());
        body.push(b',');
    }
    serde_json::to_writer(&mut *body, FIELD).map_err(written)?;
    body.push(b':');
    serde_json::to_writer(&mut *body, &carried.mark).map_err(written)?;
    body.extend_from_slice(b"}}");
    Ok(())
}

/// Removes copies that carry a mark; those of the application stay.
pub(super) fn delete_marked(
    client: &Client,
    collection: &str,
    ids: &[PointId],
) -> Result<(), ConnectError> {
    let path = format!("{}/points/delete?{WAIT}", collection_path(collection));
    let mut rest = ids;
    while !rest.is_empty() {
        let some = &rest[..rest.len().min(client.conditioned.get())];
        let filter = json!({
            "must": [{"has_id": some}],
            "must_not": [{"is_empty": {"key": FIELD}}],
        });
        match write(client, "POST", &path, &json!({"filter": filter})) {
            Err(Failure::Split { most, error }) => {
                if !client.conditioned.refused(some.len(), most) {
                    return Err(error);
                }
            }
            // The collection was made without it, before or by a cluster that demands it of its own accord.
            Err(Failure::Unindexed { key, .. }) if key == FIELD => {
                index(client, collection, FIELD, "keyword")?;
                write(client, "POST", &path, &json!({"filter": filter}))?;
                rest = &rest[some.len()..];
            }
            done => {
                done?;
                rest = &rest[some.len()..];
            }
        }
    }
    Ok(())
}

/// Has a field of a collection of ours indexed.
pub(super) fn index(
    client: &Client,
    collection: &str,
    field: &str,
    kind: &str,
) -> Result<(), ConnectError> {
    let path = format!("{}/index?wait=true", collection_path(collection));
    let body = json!({"field_name": field, "field_schema": kind});
    Ok(client.send::<Value>("PUT", &path, &body).map(drop)?)
}

/// Sends a write. What was accepted and not applied counts as not written: it is written again.
fn write(client: &Client, method: &str, path: &str, body: &Value) -> Result<(), Failure> {
    let applied: Applied = client.send(method, path, body)?;
    applied_or(applied).map_err(Failure::Other)
}

/// Sends a small write to the collection of notes, through the permanent leader.
pub(super) fn send_note(
    client: &Client,
    method: &str,
    path: &str,
    body: &Value,
) -> Result<(), Failure> {
    write(
        client,
        method,
        &format!("{path}?wait=true&ordering=strong"),
        body,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_valid_json_with_everything_of_its_point() {
        let carried = |others: &str| Carried {
            mark: "1-2".to_owned(),
            payload: serde_json::from_str(r#"{"a\"b": {"x": [1.10, null]}}"#).unwrap(),
            others: serde_json::from_str(others).unwrap(),
        };
        let body = |name: &str, others: &str| -> Value {
            let mut body = Vec::new();
            put(
                &mut body,
                name,
                &PointId::Number(7),
                &carried(others),
                &[0.5, 1.0],
            )
            .unwrap();
            serde_json::from_slice(&body).unwrap()
        };
        let plain = body("", "{}");
        assert_eq!(plain["vector"], json!([0.5, 1.0]));
        assert_eq!(
            plain["payload"],
            json!({"a\"b": {"x": [1.1, null]}, "perennial_source": "1-2"})
        );
        let named = body("te\"xt", r#"{"words": {"indices": [1], "values": [2.0]}}"#);
        assert_eq!(
            named["vector"],
            json!({"te\"xt": [0.5, 1.0], "words": {"indices": [1], "values": [2.0]}})
        );
    }
}
