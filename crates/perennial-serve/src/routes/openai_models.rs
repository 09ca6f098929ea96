//! `GET /v1/models`, as OpenAI has it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use time::{Date, Month, Time};
use utoipa::ToSchema;

use crate::answering::Answering;
use crate::authorize::MayRead;
use crate::blocking::blocking;
use crate::error::ApiError;
use crate::openapi::Guarded;

/// The models that answer.
#[derive(Serialize, ToSchema)]
pub(crate) struct AnsweringModels {
    /// `list`.
    object: &'static str,
    /// In the order of their names.
    data: Vec<AnsweringModel>,
}

/// One of them.
#[derive(Serialize, ToSchema)]
struct AnsweringModel {
    /// The name to ask for.
    id: String,
    /// `model`.
    object: &'static str,
    /// When it was registered, as Unix time.
    created: i64,
    /// `perennial`, or the upstream's name.
    owned_by: String,
}

/// Lists the models that `POST /v1/embeddings` takes: the live version, versions that are kept in memory for dual queries, aliases of these, and upstreams
/// by their names, their spaces and their models.
#[utoipa::path(
    get,
    path = "/v1/models",
    tag = "embeddings",
    responses((status = 200, description = "The models.", body = AnsweringModels), Guarded),
    security(("key" = []))
)]
pub(crate) async fn list(
    _: MayRead,
    State(answering): State<Arc<Answering>>,
) -> Result<Json<AnsweringModels>, ApiError> {
    blocking(move || {
        let names = answering.names().into_iter();
        let data = names.map(|(id, named)| AnsweringModel {
            id,
            object: "model",
            created: unix_time(&named.created).unwrap_or(0),
            owned_by: named.upstream.unwrap_or_else(|| "perennial".to_owned()),
        });
        Ok(Json(AnsweringModels {
            object: "list",
            data: data.collect(),
        }))
    })
    .await
}

/// The Unix time of `2026-11-25T10:20:30Z`; nothing for another form.
fn unix_time(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u16>().ok();
    let small = |from: usize| u8::try_from(number(from, from + 2)?).ok();
    let month = Month::try_from(small(5)?).ok()?;
    let date = Date::from_calendar_date(i32::from(number(0, 4)?), month, small(8)?).ok()?;
    let time = Time::from_hms(small(11)?, small(14)?, small(17)?).ok()?;
    Some(date.with_time(time).assume_utc().unix_timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_unix_times() {
        assert_eq!(unix_time("1970-01-02T00:00:01Z"), Some(86_401));
        assert_eq!(unix_time("2026-11-25T10:20:30Z"), Some(1_795_602_030));
        for text in ["", "2026", "2026-13-01T00:00:00Z", "2026-11-25T10:20:3ü"] {
            assert_eq!(unix_time(text), None, "{text}");
        }
    }
}
