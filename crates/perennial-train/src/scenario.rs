//! The class-incremental scenario: which images belong to which task, and what each class is called locally.

use perennial_data::ImageSet;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::TrainError;
use crate::config::{ClassOrder, ScenarioConfig};
use crate::seeds::{Purpose, seed_for};

/// Tasks over one training set. Local label y is the y-th class to arrive.
#[derive(Clone, Debug)]
pub struct Scenario {
    tasks: Vec<Task>,
    local_label: Vec<u32>,
}

/// The new images of one task.
#[derive(Clone, Debug)]
pub struct Task {
    /// Images of the task's new classes, as positions in the set.
    pub images: Vec<usize>,
    /// Local labels `[first, end)` that are new in this task.
    pub classes: std::ops::Range<u32>,
}

impl Scenario {
    /// Splits a set's classes into tasks.
    ///
    /// # Errors
    ///
    /// An order that is not a permutation of the set's classes, or more tasks than the classes allow.
    pub fn new(config: &ScenarioConfig, set: &ImageSet, seed: u64) -> Result<Self, TrainError> {
        let mut order: Vec<u32> = set.labels().to_vec();
        order.sort_unstable();
        order.dedup();
        match &config.class_order {
            ClassOrder::Natural => {}
            ClassOrder::Seeded => {
                order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed_for(
                    seed,
                    Purpose::ClassOrder,
                    0,
                    0,
                )));
            }
            ClassOrder::File(path) => order = read_order(path, &order)?,
        }
        let mut local_label = vec![u32::MAX; set.classes()];
        for (local, class) in order.iter().enumerate() {
            local_label[*class as usize] = local as u32;
        }

        let mut bounds = vec![0, config.initial_classes];
        let wanted = config.tasks.unwrap_or(usize::MAX);
        while bounds.len() <= wanted && bounds[bounds.len() - 1] + config.increment <= order.len() {
            bounds.push(bounds[bounds.len() - 1] + config.increment);
        }
        if config.initial_classes > order.len() {
            return Err(TrainError::config(
                "scenario.initial_classes",
                &format!(
                    "is {}, but the set has {} classes",
                    config.initial_classes,
                    order.len()
                ),
            ));
        }
        if config.tasks == Some(0) {
            return Err(TrainError::config("scenario.tasks", "must be at least 1"));
        }
        if config.tasks.is_some_and(|tasks| tasks >= bounds.len()) {
            return Err(TrainError::config(
                "scenario.tasks",
                &format!(
                    "{} initial classes and {} per further task do not fit {} tasks into {} classes",
                    config.initial_classes,
                    config.increment,
                    config.tasks.unwrap_or(1),
                    order.len()
                ),
            ));
        }
        bounds.truncate(wanted.saturating_add(1));
        let left_out = order.len() - bounds[bounds.len() - 1];
        // Whoever names the number of tasks knows.
        if config.tasks.is_none() && left_out > 0 {
            tracing::warn!(
                "{left_out} of {} classes do not fill a further task of {} and are trained in none; change scenario.initial_classes or scenario.increment to train on all, or set scenario.tasks = {} to leave them out",
                order.len(),
                config.increment,
                bounds.len() - 1
            );
        }
        let tasks = bounds
            .windows(2)
            .map(|bound| {
                let classes = bound[0] as u32..bound[1] as u32;
                let images = (0..set.len())
                    .filter(|&image| classes.contains(&local_label[set.label(image) as usize]))
                    .collect();
                Task { images, classes }
            })
            .collect();
        Ok(Self { tasks, local_label })
    }

    /// All tasks, in order.
    pub fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    /// The local label of a class of the set.
    pub fn local_label(&self, class: u32) -> u32 {
        self.local_label[class as usize]
    }

    /// Local classes seen once the task is done.
    pub fn classes_after(&self, task: usize) -> usize {
        self.tasks[task].classes.end as usize
    }
}

/// Largest list of classes that is read; a line has a few bytes.
const MAX_ORDER_BYTES: u64 = 16 << 20;

fn read_order(path: &std::path::Path, classes: &[u32]) -> Result<Vec<u32>, TrainError> {
    let text = perennial_core::read_text_at_most(path, MAX_ORDER_BYTES)?;
    let mut order = Vec::new();
    for (at, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
    {
        order.push(line.trim().parse().map_err(|_| {
            TrainError::config(
                "scenario.class_order",
                &format!(
                    "{} line {}: {line:?} is not a class label",
                    path.display(),
                    at + 1
                ),
            )
        })?);
    }
    let mut sorted = order.clone();
    sorted.sort_unstable();
    if sorted != classes {
        return Err(TrainError::config(
            "scenario.class_order",
            &format!(
                "{} must name each of the set's {} classes exactly once",
                path.display(),
                classes.len()
            ),
        ));
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(classes: usize) -> ImageSet {
        let labels: Vec<u32> = (0..classes as u32)
            .flat_map(|class| [class, class])
            .collect();
        ImageSet::new("toy", [1, 1, 1], vec![0; labels.len()], labels, classes).unwrap()
    }

    fn config(initial_classes: usize, increment: usize, tasks: Option<usize>) -> ScenarioConfig {
        ScenarioConfig {
            initial_classes,
            increment,
            tasks,
            class_order: ClassOrder::Natural,
        }
    }

    #[test]
    fn published_splits_have_seven_and_thirty_one_tasks() {
        for (increment, tasks) in [(15, 7), (3, 31)] {
            let scenario = Scenario::new(&config(10, increment, None), &set(100), 0).unwrap();
            assert_eq!(scenario.tasks().len(), tasks);
            assert_eq!(scenario.classes_after(tasks - 1), 100);
            assert_eq!(scenario.tasks()[0].images.len(), 20);
            assert_eq!(scenario.tasks()[1].images.len(), 2 * increment);
        }
    }

    #[test]
    fn a_seeded_order_permutes_and_repeats() {
        let seeded = ScenarioConfig {
            class_order: ClassOrder::Seeded,
            ..config(2, 2, None)
        };
        let of = |seed| {
            let scenario = Scenario::new(&seeded, &set(8), seed).unwrap();
            (0..8)
                .map(|class| scenario.local_label(class))
                .collect::<Vec<_>>()
        };
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
        let mut labels = of(1);
        labels.sort_unstable();
        assert_eq!(labels, (0..8).collect::<Vec<_>>());
    }

    #[test]
    fn too_many_tasks_are_refused() {
        assert_eq!(
            Scenario::new(&config(2, 2, Some(4)), &set(8), 0)
                .unwrap()
                .tasks()
                .len(),
            4
        );
        let error = Scenario::new(&config(2, 2, Some(5)), &set(8), 0).unwrap_err();
        assert!(error.to_string().contains("scenario.tasks"), "{error}");
        let error = Scenario::new(&config(9, 2, None), &set(8), 0).unwrap_err();
        assert!(
            error.to_string().contains("scenario.initial_classes"),
            "{error}"
        );
        assert!(Scenario::new(&config(2, 2, Some(0)), &set(8), 0).is_err());
    }
}
