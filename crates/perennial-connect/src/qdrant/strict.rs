//! Refusals of a server's strict mode and of its limits, and what to do about each.
//!
//! Servers say which limit was crossed in words alone, as `Limit exceeded 512 > 100 for "upsert limit". Help: …`, with the status 400 (some versions 403),
//! and for rates with 429 and, where waiting helps, `Retry-After`.

use std::time::Duration;

use super::failure::Failure;
use crate::error::ConnectError;

/// What servers say, and the setting that it is about.
const SETTINGS: [(&str, &str); 14] = [
    ("for \"limit\"", "max_query_limit"),
    ("for \"upsert limit\"", "upsert_max_batchsize"),
    ("for \"search batch size\"", "search_max_batchsize"),
    ("for \"timeout\"", "max_timeout"),
    ("for \"hnsw_ef\"", "search_max_hnsw_ef"),
    ("Exact search disabled", "search_allow_exact"),
    ("Condition size limit reached", "condition_max_size"),
    ("Filter condition limit reached", "filter_max_conditions"),
    (
        "Max vector storage size limit",
        "max_collection_vector_size_bytes",
    ),
    (
        "Max payload storage size limit",
        "max_collection_payload_size_bytes",
    ),
    ("Max points count limit", "max_points_count"),
    (INDEX_REQUIRED, "unindexed_filtering_update"),
    ("Read rate limit exceeded", "read_rate_limit"),
    ("Write rate limit exceeded", "write_rate_limit"),
];
const INDEX_REQUIRED: &str = "Index required but not found for \"";

/// A refusal of a limit; nothing for any other one. `path` is that of the request.
pub(super) fn recognised(
    status: u16,
    after: Option<Duration>,
    message: &str,
    path: &str,
) -> Option<Failure> {
    if status == 413 {
        let error = ConnectError::State(format!(
            "the server, or a proxy before it, takes no body of this size ({message}); raise its limit (service.max_request_size_mb, \
             client_max_body_size of nginx), and run again: what was finished is kept"
        ));
        return Some(Failure::Split { most: None, error });
    }
    let setting = SETTINGS
        .iter()
        .find(|(said, _)| message.contains(said))
        .map(|&(_, setting)| setting);
    if status == 429 {
        let message = match setting {
            Some(setting) => format!(
                "{message} ({setting} in strict_mode_config of {})",
                collection(path)
            ),
            None => message.to_owned(),
        };
        // More than a whole minute's worth: waiting would not help.
        return Some(match after.is_none() && message.contains("larger than") {
            true => Failure::Split {
                most: None,
                error: ConnectError::State(format!(
                    "{message}; raise it, and run again: what was finished is kept"
                )),
            },
            false => Failure::Other(ConnectError::Throttled { message, after }),
        });
    }
    if ![400, 403, 422].contains(&status) {
        return None;
    }
    let setting = setting?;
    let error = ConnectError::State(format!(
        "{message}; that is {setting} in strict_mode_config of {}: change it by PATCH, or switch strict mode off there, and run again: what was finished \
         is kept",
        collection(path)
    ));
    Some(match setting {
        "max_query_limit" | "upsert_max_batchsize" | "condition_max_size" => Failure::Split {
            most: allowed(message),
            error,
        },
        "search_allow_exact" => Failure::Inexact(error),
        "unindexed_filtering_update" => match key(message) {
            Some(key) => Failure::Unindexed { key, error },
            None => Failure::Other(error),
        },
        _ => Failure::Other(error),
    })
}

/// The collection that a path leads to, for messages.
fn collection(path: &str) -> String {
    let name = path
        .strip_prefix("/collections/")
        .and_then(|rest| rest.split(['/', '?']).next());
    match name {
        Some(name) => format!("collection {name}"),
        None => "the collection".to_owned(),
    }
}

/// The limit in `… 512 > 100 …`.
fn allowed(message: &str) -> Option<usize> {
    let (_, after) = message.split_once(" > ")?;
    let digits = after.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

fn key(message: &str) -> Option<String> {
    let (_, after) = message.split_once(INDEX_REQUIRED)?;
    Some(after.split_once('"')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(status: u16, message: &str) -> Option<Failure> {
        recognised(status, None, message, "/collections/items/points?wait=true")
    }

    #[test]
    fn limits_say_how_much_is_allowed_and_where() {
        for (message, wanted) in [
            (
                "Bad request: Limit exceeded 100 > 10 for \"limit\". Help: Reduce the \"limit\" parameter to or below 10.",
                (10, "max_query_limit"),
            ),
            (
                "Limit exceeded 512 > 64 for \"upsert limit\". Help: Reduce the \"upsert limit\" parameter to or below 64.",
                (64, "upsert_max_batchsize"),
            ),
            (
                "Condition size limit reached (512 > 100). Help: Reduce the size of your condition.",
                (100, "condition_max_size"),
            ),
        ] {
            for status in [400, 403] {
                let Some(Failure::Split { most, error }) = said(status, message) else {
                    panic!("{message}")
                };
                assert_eq!(most, Some(wanted.0));
                let error = error.to_string();
                assert!(error.contains(wanted.1), "{error}");
                assert!(error.contains("collection items"), "{error}");
            }
        }
        assert!(said(400, "Wrong input: Vector dimension error").is_none());
        assert!(said(403, "Forbidden").is_none());
        assert!(said(500, "for \"limit\"").is_none());
    }

    #[test]
    fn what_cannot_be_split_names_its_setting() {
        let unindexed = said(
            400,
            "Bad request: Index required but not found for \"owner\" of one of the following types: [keyword]. Help: Create an index for this key or \
             use a different filter.",
        );
        let Some(Failure::Unindexed { key, .. }) = unindexed else {
            panic!()
        };
        assert_eq!(key, "owner");
        let exact = said(400, "Exact search disabled!. Help: Set exact=false.");
        assert!(matches!(exact, Some(Failure::Inexact(_))));
        let full = said(
            400,
            "Bad request: Max vector storage size limit of 1MB reached!",
        );
        let Some(Failure::Other(error)) = full else {
            panic!()
        };
        assert!(!error.may_pass());
        let error = error.to_string();
        assert!(
            error.contains("max_collection_vector_size_bytes"),
            "{error}"
        );
    }

    #[test]
    fn rates_are_waited_for_unless_that_would_not_help() {
        let larger = "Rate limiting exceeded: Write rate limit exceeded, request larger than rate limiter capacity, please try to split your request";
        assert!(matches!(said(429, larger), Some(Failure::Split { .. })));
        let later = "Rate limiting exceeded: Read rate limit exceeded: Operation requires 512 tokens but only 3.0 were available. Retry after 51s";
        let after = Some(Duration::from_secs(51));
        let Some(Failure::Other(error)) = recognised(429, after, later, "/collections/items")
        else {
            panic!()
        };
        assert!(error.may_pass());
        assert!(error.to_string().contains("read_rate_limit"), "{error}");
        assert!(matches!(said(429, "slow down"), Some(Failure::Other(_))));
        assert!(matches!(said(413, ""), Some(Failure::Split { .. })));
    }
}
