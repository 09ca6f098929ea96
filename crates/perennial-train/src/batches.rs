//! Which images make up the batches of an epoch, and which images of a finished task are remembered.

use perennial_data::BatchPlan;
use rand::seq::{SliceRandom, index};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The batches of one epoch.
///
/// Without memory, an epoch passes over the shuffled new images once; an incomplete last batch is dropped unless it
/// is the only one. With memory, there are `floor((new + memory) / batch_size)` batches (at least one), each half new
/// and half remembered images (fewer where the memory is smaller), drawn without replacement inside the batch.
///
/// `label` gives an image's local label.
///
/// **Source**: the released recipe.
pub fn epoch_plans(
    new: &[usize],
    memory: &[usize],
    batch_size: usize,
    seed: u64,
    label: impl Fn(usize) -> u32,
) -> Vec<BatchPlan> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let batch_size = batch_size.min(new.len() + memory.len());
    let count = ((new.len() + memory.len()) / batch_size.max(1)).max(1);
    let mut shuffled = new.to_vec();
    shuffled.shuffle(&mut rng);
    (0..count)
        .map(|batch| {
            let images: Vec<usize> = if memory.is_empty() {
                shuffled[batch * batch_size..(batch + 1) * batch_size].to_vec()
            } else {
                let remembered = (batch_size / 2).min(memory.len());
                let fresh = (batch_size - remembered).min(new.len());
                let draw = |from: &[usize], amount, rng: &mut ChaCha8Rng| {
                    index::sample(rng, from.len(), amount)
                        .into_iter()
                        .map(|at| from[at])
                        .collect::<Vec<_>>()
                };
                let mut images = draw(new, fresh, &mut rng);
                images.extend(draw(memory, remembered, &mut rng));
                images
            };
            BatchPlan {
                labels: images.iter().map(|&image| label(image)).collect(),
                sources: images.into_iter().map(|image| (0, image)).collect(),
                seed: rng.random(),
            }
        })
        .collect()
}

/// Images of a finished task to remember: up to `per_class` of each of its classes, chosen at random.
pub fn remember(
    images: &[usize],
    per_class: usize,
    seed: u64,
    label: impl Fn(usize) -> u32,
) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut by_class = std::collections::BTreeMap::<u32, Vec<usize>>::new();
    for &image in images {
        by_class.entry(label(image)).or_default().push(image);
    }
    let mut chosen = Vec::new();
    for members in by_class.values() {
        let mut picked: Vec<usize> =
            index::sample(&mut rng, members.len(), per_class.min(members.len()))
                .into_iter()
                .map(|at| members[at])
                .collect();
        picked.sort_unstable();
        chosen.extend(picked);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn images(plan: &BatchPlan) -> Vec<usize> {
        plan.sources.iter().map(|&(_, image)| image).collect()
    }

    #[test]
    fn an_epoch_without_memory_sees_every_image_at_most_once() {
        let new: Vec<usize> = (0..50).collect();
        let plans = epoch_plans(&new, &[], 16, 7, |image| image as u32);
        assert_eq!(plans.len(), 3);
        let seen: Vec<usize> = plans.iter().flat_map(images).collect();
        assert_eq!(seen.len(), 48);
        assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 48);
        assert_eq!(plans, epoch_plans(&new, &[], 16, 7, |image| image as u32));
        assert_ne!(plans, epoch_plans(&new, &[], 16, 8, |image| image as u32));
    }

    #[test]
    fn batches_with_memory_are_balanced_and_without_repeats() {
        let new: Vec<usize> = (0..45).collect();
        let memory: Vec<usize> = (100..130).collect();
        let plans = epoch_plans(&new, &memory, 16, 7, |image| image as u32);
        assert_eq!(plans.len(), 75 / 16);
        for plan in &plans {
            let images = images(plan);
            assert_eq!(images.iter().filter(|&&image| image >= 100).count(), 8);
            assert_eq!(images.iter().collect::<BTreeSet<_>>().len(), 16);
            assert!(
                plan.labels
                    .iter()
                    .zip(&images)
                    .all(|(&label, &image)| label as usize == image)
            );
        }
    }

    #[test]
    fn fewer_images_than_a_batch_make_one_smaller_batch() {
        let plans = epoch_plans(&[1, 2, 3], &[9], 128, 0, |_| 0);
        assert_eq!(plans.len(), 1);
        assert_eq!(plans[0].sources.len(), 4);
    }

    #[test]
    fn memory_keeps_the_same_number_of_every_class() {
        let all: Vec<usize> = (0..100).collect();
        let kept = remember(&all, 3, 5, |image| (image / 10) as u32);
        assert_eq!(kept.len(), 30);
        for class in 0..10 {
            assert_eq!(kept.iter().filter(|&&image| image / 10 == class).count(), 3);
        }
        assert_eq!(remember(&all, 99, 5, |_| 0).len(), 99);
    }
}
