//! Which vertices of a simplex classes take, where the registry has allocated some.

use std::ops::Range;

use perennial_core::{Registry, Slot, VertexEnd};

use crate::TrainError;

/// How many vertices at the back belong to others, so that so many classes are placed below them; 0 at the front.
///
/// # Errors
/// A slot that does not exist, is too small or lies at the other end; vertices without a slot of their own that a slot has.
pub fn skipped_vertices(
    registry: &Registry,
    vertices: usize,
    classes: usize,
    end: VertexEnd,
    slot: Option<&str>,
) -> Result<usize, TrainError> {
    let slots = registry.slots_of(vertices)?;
    match (end, slot) {
        (VertexEnd::Front, owner) => {
            if let Some(owner) = owner {
                is_front(found(&slots, owner, vertices, classes)?)?;
            }
            in_front(&slots, classes).map(|()| 0)
        }
        (VertexEnd::Back, Some(owner)) => in_slot(&slots, owner, vertices, classes),
        (VertexEnd::Back, None) => {
            let wanted = vertices.saturating_sub(classes)..vertices;
            beside_slots(&slots, &wanted).map(|()| 0)
        }
    }
}

/// Pre-training takes the front, which all pre-trainings share: it may be a slot, but nothing behind it.
fn in_front(slots: &[Slot], classes: usize) -> Result<(), TrainError> {
    let wanted = 0..classes;
    let other = slots.iter().find(|slot| {
        if slot.first == 0 {
            slot.end < classes
        } else {
            slot.overlaps(&wanted)
        }
    });
    match other {
        None => Ok(()),
        Some(slot) if slot.first == 0 => Err(TrainError::config(
            "data.classes",
            &format!(
                "{classes} classes of pre-training do not fit {}; pre-train on fewer, or allocate the front anew in another registry",
                slot.describe()
            ),
        )),
        Some(slot) => Err(TrainError::config(
            "data.classes",
            &format!(
                "pre-training takes vertices 0..{classes}, which collide with {}; pre-train on fewer classes",
                slot.describe()
            ),
        )),
    }
}

/// Pre-training is at the front whatever slot it names, so it can name no other one.
fn is_front(slot: &Slot) -> Result<(), TrainError> {
    match slot.first {
        0 => Ok(()),
        _ => Err(TrainError::config(
            "slot",
            &format!(
                "pre-training takes the front of the simplex, from vertex 0 on, and not {}; remove it",
                slot.describe()
            ),
        )),
    }
}

fn found<'a>(
    slots: &'a [Slot],
    owner: &str,
    vertices: usize,
    classes: usize,
) -> Result<&'a Slot, TrainError> {
    slots
        .iter()
        .find(|slot| slot.owner == owner)
        .ok_or_else(|| {
            let known: Vec<&str> = slots.iter().map(|slot| slot.owner.as_str()).collect();
            let known = match &known[..] {
                [] => "it has none".to_owned(),
                some => format!("it has those of {}", some.join(", ")),
            };
            TrainError::config(
                "slot",
                &format!(
                    "the registry has no slot of {owner} on the simplex of {vertices} vertices, {known}; allocate it with `perennial slots \
                     allocate {owner} --vertices {vertices} --classes {classes}`"
                ),
            )
        })
}

fn in_slot(
    slots: &[Slot],
    owner: &str,
    vertices: usize,
    classes: usize,
) -> Result<usize, TrainError> {
    let slot = found(slots, owner, vertices, classes)?;
    if slot.first == 0 {
        return Err(TrainError::config(
            "slot",
            &format!(
                "{} are the front of the simplex, which pre-trainings take; name a slot behind it, or allocate one with `perennial slots \
                 allocate OWNER --vertices {vertices} --classes {classes}`",
                slot.describe()
            ),
        ));
    }
    let size = slot.range().len();
    if classes > size {
        return Err(TrainError::config(
            "slot",
            &format!(
                "{classes} classes do not fit the {size} {}; use fewer classes, or another slot",
                slot.describe()
            ),
        ));
    }
    Ok(vertices - slot.end)
}

fn beside_slots(slots: &[Slot], wanted: &Range<usize>) -> Result<(), TrainError> {
    match slots.iter().find(|slot| slot.overlaps(wanted)) {
        None => Ok(()),
        Some(slot) => Err(TrainError::config(
            "slot",
            &format!(
                "without a slot of its own, this run takes vertices {}..{}, which collide with {}; set `slot` to an owner of vertices",
                wanted.start,
                wanted.end,
                slot.describe()
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(owner: &str, first: usize, end: usize) -> Slot {
        Slot {
            vertices: 16,
            owner: owner.to_owned(),
            first,
            end,
            created: String::new(),
        }
    }

    #[test]
    fn the_front_is_shared_by_pretrainings_alone() {
        let slots = [slot("base", 0, 4), slot("a", 8, 12)];
        in_front(&slots, 4).unwrap();
        in_front(&[], 16).unwrap();
        let message = |slots: &[Slot], classes| in_front(slots, classes).unwrap_err().to_string();
        assert!(message(&slots, 5).contains("vertices 0..4 of base"));
        assert!(message(&slots[1..], 9).contains("0..9, which collide with vertices 8..12 of a"));
    }

    #[test]
    fn classes_stay_in_their_slot_or_out_of_all() {
        let slots = [slot("base", 0, 4), slot("a", 8, 12)];
        assert_eq!(in_slot(&slots, "a", 16, 4).unwrap(), 4);
        let message = |owner, classes| in_slot(&slots, owner, 16, classes).unwrap_err().to_string();
        assert!(message("a", 5).contains("5 classes do not fit the 4 vertices 8..12 of a"));
        assert!(
            message("b", 2).contains("base, a") && message("b", 2).contains("slots allocate b")
        );
        assert!(message("base", 2).contains("vertices 0..4 of base are the front"));
        is_front(&slots[0]).unwrap();
        let error = is_front(&slots[1]).unwrap_err().to_string();
        assert!(error.contains("not vertices 8..12 of a"), "{error}");
        beside_slots(&slots, &(12..16)).unwrap();
        let error = beside_slots(&slots, &(11..16)).unwrap_err().to_string();
        assert!(
            error.contains("11..16") && error.contains("of a"),
            "{error}"
        );
    }
}
