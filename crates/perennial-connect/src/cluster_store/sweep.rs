//! Removing what nobody reads any more: points that were superseded, collections of spaces that are gone, and what writers left that were killed.

use serde_json::json;

use super::head::{Aborted, Head, State, Sweep, now};
use super::lease::Lease;
use super::pin;
use super::server::Server;
use crate::failure::Failure;

/// How long superseded points stay at least, in seconds, so that reads that have begun find them. A read that takes longer is made again.
const STAY: u64 = 60;
/// How long after a writer is gone its requests may still arrive, in seconds.
const SETTLED: u64 = 3600;
/// Aborted generations that are remembered at most; every read names them.
const MOST_ABORTED: usize = 200;

/// Whether there is something to remove.
pub(super) fn is_due(head: &Head) -> bool {
    let sweep = head.state.sweep;
    sweep.is_some_and(|sweep| sweep.at + STAY <= now()) || !settled(&head.aborted).is_empty()
}

/// The aborted generations whose requests have all arrived.
fn settled(aborted: &[Aborted]) -> &[Aborted] {
    // In the order in which they were aborted.
    let old = aborted.partition_point(|aborted| aborted.at + SETTLED <= now());
    &aborted[..old.max(aborted.len().saturating_sub(MOST_ABORTED))]
}

/// Removes it, unless somebody writes.
pub(super) fn sweep(server: &Server, owner: &str) -> Result<(), Failure> {
    let Some(lease) = Lease::try_take(server, owner)? else {
        return Ok(());
    };
    let prepared = lease.hold(|| prepare(server, &lease));
    let (state, aborted) = match prepared {
        Ok(prepared) => prepared,
        Err(failure) => {
            lease.give_back(false);
            return Err(failure);
        }
    };
    lease.commit(&state, &aborted)?;
    // From here on no read relies on what is removed now, and whatever fails is removed the next time.
    remove(server, &state, &aborted)
}

/// What is to count after the sweep.
fn prepare(server: &Server, lease: &Lease<'_>) -> Result<(State, Vec<Aborted>), Failure> {
    let head = &lease.head;
    let mut state = head.state.clone();
    let settled = settled(&head.aborted);
    if !settled.is_empty() {
        purge(server, &state, settled)?;
    }
    let aborted = head.aborted[settled.len()..].to_vec();
    let mut gone = Vec::new();
    for dropped in &state.dropped {
        if dropped.generation <= state.swept {
            // Again, should it have failed the last time.
            server.drop_collection(&server.of_space(&dropped.collection))?;
            gone.push(dropped.clone());
        }
    }
    state.dropped.retain(|dropped| !gone.contains(dropped));
    if let Some(sweep) = state.sweep.filter(|sweep| sweep.at + STAY <= now()) {
        let pinned = pin::oldest(server)?.unwrap_or(u64::MAX);
        state.swept = state.swept.max(sweep.to.min(pinned));
        // What was superseded since, or is still read, has to wait.
        let to = state.superseded;
        state.sweep = (state.swept < to).then(|| Sweep { to, at: now() });
    }
    state.generation = lease.generation;
    Ok((state, aborted))
}

/// Removes what is superseded for every reader.
fn remove(server: &Server, state: &State, aborted: &[Aborted]) -> Result<(), Failure> {
    let mut filter = json!({"must": [{"key": "until", "range": {"lte": state.swept}}]});
    if !aborted.is_empty() {
        // A mark of a generation that does not count supersedes nothing.
        filter["must_not"] = json!([{"key": "until", "match": {"any": generations(aborted)}}]);
    }
    for suffix in collections(state) {
        server.delete(&server.of_space(suffix), &filter)?;
    }
    for dropped in &state.dropped {
        if dropped.generation <= state.swept {
            server.drop_collection(&server.of_space(&dropped.collection))?;
        }
    }
    Ok(())
}

/// Removes everything of generations that will never count.
fn purge(server: &Server, state: &State, aborted: &[Aborted]) -> Result<(), Failure> {
    let any = |key: &str| json!({"must": [{"key": key, "match": {"any": generations(aborted)}}]});
    for suffix in collections(state) {
        let collection = server.of_space(suffix);
        server.delete(&collection, &any("from"))?;
        server.unset(&collection, "until", &any("until"))?;
    }
    let known = collections(state).chain(state.dropped.iter().map(|dropped| &dropped.collection));
    let known: Vec<String> = known.map(|suffix| server.of_space(suffix)).collect();
    for name in server.collections()? {
        let is_of = |generation: u64| name.starts_with(&server.of_space(&format!("{generation}.")));
        let mut generations = generations(aborted).into_iter();
        if generations.any(is_of) && !known.contains(&name) {
            server.drop_collection(&name)?;
        }
    }
    Ok(())
}

fn generations(aborted: &[Aborted]) -> Vec<u64> {
    aborted.iter().map(|aborted| aborted.generation).collect()
}

fn collections(state: &State) -> impl Iterator<Item = &String> {
    let spaces = state.spaces.values();
    spaces.filter_map(|known| known.collection.as_ref())
}
