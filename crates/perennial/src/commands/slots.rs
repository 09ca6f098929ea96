//! `perennial slots`: who places classes at which vertices of a simplex.

use std::fmt::Write;
use std::ops::Range;

use clap::Subcommand;
use perennial_core::{ModelVersion, Registry, Slot, SlotPlace, SlotRequest};
use serde::Serialize;

use crate::arguments::GlobalArguments;
use crate::exit_status::{ExitStatus, usage};
use crate::terminal::Terminal;

/// Vertices of a published recipe's simplex.
const USUAL_VERTICES: usize = 1024;

#[derive(Debug, Subcommand)]
pub enum Action {
    /// Give a team or task vertices of its own, by default the highest free ones. `perennial train` with `slot = "OWNER"` uses them
    Allocate(AllocateArguments),
    /// List slots, vertices at which published versions have classes, and free vertices
    List,
    /// Move all slots of a simplex to a larger one, as long as no version was trained on it: prototypes of a larger simplex are others
    Grow(GrowArguments),
}

#[derive(Debug, clap::Args)]
pub struct AllocateArguments {
    /// The team or task
    owner: String,
    /// Vertices of the simplex, as `method.vertices` of the configurations
    #[arg(long, value_name = "K", default_value_t = USUAL_VERTICES)]
    vertices: usize,
    /// How many classes the owner will have at most
    #[arg(long, value_name = "N")]
    classes: usize,
    /// The front of the simplex, which all pre-trainings share
    #[arg(long, conflicts_with = "first")]
    front: bool,
    /// Exactly the vertices from this one on, also where published versions have classes: for whoever trained those
    #[arg(long, value_name = "VERTEX")]
    first: Option<usize>,
}

#[derive(Debug, clap::Args)]
pub struct GrowArguments {
    /// Vertices of the simplex
    #[arg(long, value_name = "K", default_value_t = USUAL_VERTICES)]
    vertices: usize,
    /// Vertices of the larger one
    #[arg(long, value_name = "K")]
    to: usize,
}

/// One simplex in the list.
#[derive(Serialize)]
struct Listed {
    vertices: usize,
    slots: Vec<Slot>,
    /// Vertices of classes of published versions, `[first, end]`.
    trained: Vec<[usize; 2]>,
    /// Vertices that neither a slot nor a version has.
    free: Vec<[usize; 2]>,
}

pub fn run(
    action: &Action,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    match action {
        Action::Allocate(arguments) => {
            if arguments.classes == 0 {
                return Err(usage(
                    "--classes 0: an owner needs at least 1 vertex; name the most classes that it will have",
                ));
            }
            // The first allocation may come before the first version.
            let registry = global.create_registry()?;
            let slot = registry.allocate_slot(SlotRequest {
                vertices: arguments.vertices,
                owner: arguments.owner.clone(),
                classes: arguments.classes,
                place: match arguments.first {
                    Some(first) => SlotPlace::At(first),
                    None if arguments.front => SlotPlace::Front,
                    None => SlotPlace::Back,
                },
                created: perennial_train::now(),
            })?;
            if slot.first == 0 && !arguments.front && arguments.first.is_none() {
                tracing::warn!(
                    "these are the last free vertices, and they begin at vertex 0, the front: only pre-training takes them"
                );
            }
            terminal.result(&slot, |_| describe(&slot))?;
        }
        Action::List => {
            let listed = list(&global.open_registry()?)?;
            terminal.result(&serde_json::json!({ "simplices": listed }), |_| {
                text(&listed)
            })?;
        }
        Action::Grow(arguments) => {
            let registry = global.open_registry()?;
            let slots = registry.grow_slots(arguments.vertices, arguments.to)?;
            terminal.result(&serde_json::json!({ "slots": slots }), |_| {
                let lines: Vec<String> = slots.iter().map(describe).collect();
                lines.join("\n")
            })?;
        }
    }
    Ok(ExitStatus::Done)
}

fn describe(slot: &Slot) -> String {
    format!("simplex of {}: {}", slot.vertices, slot.describe())
}

fn list(registry: &Registry) -> anyhow::Result<Vec<Listed>> {
    let slots = registry.slots()?;
    let of_versions = registry.list()?;
    let mut simplices: Vec<usize> = of_versions
        .iter()
        .filter_map(ModelVersion::simplex_vertices)
        .chain(slots.iter().map(|slot| slot.vertices))
        .collect();
    simplices.sort_unstable();
    simplices.dedup();
    let pairs = |ranges: &[Range<usize>]| ranges.iter().map(|one| [one.start, one.end]).collect();
    simplices
        .into_iter()
        .map(|vertices| {
            let slots: Vec<Slot> = slots
                .iter()
                .filter(|slot| slot.vertices == vertices)
                .cloned()
                .collect();
            let trained = registry.taken_vertices(vertices)?;
            let mut used: Vec<Range<usize>> = slots.iter().map(Slot::range).collect();
            used.extend(trained.iter().cloned());
            Ok(Listed {
                vertices,
                free: pairs(&between(used, vertices)),
                trained: pairs(&trained),
                slots,
            })
        })
        .collect()
}

/// What ranges leave of `0..vertices`.
fn between(mut used: Vec<Range<usize>>, vertices: usize) -> Vec<Range<usize>> {
    used.sort_by_key(|range| range.start);
    let mut free = Vec::new();
    let mut next = 0;
    for range in used {
        if range.start > next {
            free.push(next..range.start);
        }
        next = next.max(range.end);
    }
    if next < vertices {
        free.push(next..vertices);
    }
    free
}

fn text(simplices: &[Listed]) -> String {
    if simplices.is_empty() {
        return "no slots, and no version on a simplex".to_owned();
    }
    let mut text = String::new();
    for one in simplices {
        let _ = writeln!(text, "simplex of {} vertices", one.vertices);
        for slot in &one.slots {
            let _ = writeln!(text, "  {:>6}..{:<6}  {}", slot.first, slot.end, slot.owner);
        }
        for (ranges, what) in [(&one.trained, "classes of versions"), (&one.free, "free")] {
            let shown: Vec<String> = ranges
                .iter()
                .map(|[first, end]| format!("{first}..{end}"))
                .collect();
            if !shown.is_empty() {
                let _ = writeln!(text, "  {what}: {}", shown.join(", "));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::between;

    #[test]
    fn free_is_what_overlapping_ranges_leave() {
        let all = 0..4;
        assert_eq!(between(vec![], 4), [all]);
        assert_eq!(between(vec![2..3, 0..1, 2..4], 6), [1..2, 4..6]);
        assert!(between(vec![0..3, 3..6], 6).is_empty());
    }
}
