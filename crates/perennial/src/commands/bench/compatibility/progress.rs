//! How far a benchmark got, and how long the rest will take.

use std::collections::BTreeMap;

use serde::Serialize;

use super::plan::{Plan, Run, Training};
use super::record::{Record, training_seconds};
use super::records;

/// How far a run or pre-training got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Trained and measured; a pre-training: trained.
    Done,
    /// A process works on it.
    Running,
    /// Trained, and not measured as the description asks.
    Trained,
    /// It goes on from its checkpoint.
    Interrupted,
    /// Not begun.
    Missing,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Running => "running",
            Self::Trained => "trained",
            Self::Interrupted => "interrupted",
            Self::Missing => "missing",
        }
    }
}

/// A run in the list.
#[derive(Debug, Serialize)]
pub struct Line {
    /// Its name.
    pub run: String,
    /// The scenario; none for a pre-training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scenario: Option<String>,
    /// The method; none for a pre-training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// How far it got.
    pub state: State,
    /// Time of its training and measurement so far, in seconds.
    pub seconds: f64,
    /// Estimate of the time that is left, in seconds; none where no finished run tells.
    pub seconds_left: Option<f64>,
}

/// The whole list.
#[derive(Debug, Serialize)]
pub struct Progress {
    /// The benchmark.
    pub benchmark: String,
    /// Pre-trainings that runs need which are not done.
    pub pretrained: Vec<Line>,
    /// The runs.
    pub runs: Vec<Line>,
    /// Runs that are done.
    pub done: usize,
    /// Estimate of the time that everything left takes with one process, in seconds; none where it is unknown for some.
    pub seconds_left: Option<f64>,
}

/// What finished runs took, in seconds: training and measurement.
#[derive(Default)]
struct Times {
    /// By scenario and method.
    by_method: BTreeMap<(usize, String), Vec<[f64; 2]>>,
    by_scenario: BTreeMap<usize, Vec<[f64; 2]>>,
    /// Per epoch of a task.
    all: Vec<[f64; 2]>,
}

impl Times {
    fn add(&mut self, run: &Run, record: &Record) {
        let Some(measuring) = record.evaluation_seconds else {
            return;
        };
        let times = [record.training_seconds, measuring];
        let key = (run.scenario, run.method.clone());
        self.by_method.entry(key).or_default().push(times);
        self.by_scenario
            .entry(run.scenario)
            .or_default()
            .push(times);
        let epochs = run.work.config.training.epochs.max(1) as f64;
        self.all.push([times[0] / epochs, times[1]]);
    }

    /// Runs of the same method and scenario tell most, then those of the scenario, then all others by their epochs.
    fn estimate(&self, run: &Run) -> Option<[f64; 2]> {
        let key = (run.scenario, run.method.clone());
        let same = self
            .by_method
            .get(&key)
            .or_else(|| self.by_scenario.get(&run.scenario));
        if let Some(times) = same {
            return mean(times);
        }
        let [per_epoch, measuring] = mean(&self.all)?;
        Some([
            per_epoch * run.work.config.training.epochs as f64,
            measuring,
        ])
    }
}

fn mean(times: &[[f64; 2]]) -> Option<[f64; 2]> {
    if times.is_empty() {
        return None;
    }
    Some([0, 1].map(|part| times.iter().map(|one| one[part]).sum::<f64>() / times.len() as f64))
}

impl Progress {
    /// Looks at every run's folder.
    ///
    /// # Errors
    /// A damaged record or run, by its file.
    pub fn of(plan: &Plan) -> anyhow::Result<Self> {
        let mut records = Vec::with_capacity(plan.runs.len());
        let mut times = Times::default();
        for run in &plan.runs {
            let record = records::find(run, plan)?;
            if let Some(record) = &record {
                times.add(run, record);
            }
            records.push(record);
        }
        let mut runs = Vec::with_capacity(plan.runs.len());
        for (run, record) in plan.runs.iter().zip(&records) {
            runs.push(line(plan, run, record.as_ref(), &times)?);
        }
        let open = |line: &&Line| line.state != State::Done;
        let open_runs = plan.runs.iter().zip(&records);
        let open_runs = open_runs.filter(|(_, record)| record.is_none());
        let open_runs: Vec<&Run> = open_runs.map(|(run, _)| run).collect();
        let pretrained = pretrained(plan, &open_runs)?;
        let left = runs.iter().chain(&pretrained).filter(open);
        let seconds_left = left.map(|line| line.seconds_left).sum();
        Ok(Self {
            benchmark: plan.name.clone(),
            done: runs.iter().filter(|line| line.state == State::Done).count(),
            pretrained,
            runs,
            seconds_left,
        })
    }

    /// The list as text.
    pub fn text(&self) -> String {
        let lines = || self.pretrained.iter().chain(&self.runs);
        let width = lines().map(|line| line.run.len()).max().unwrap_or(0);
        let mut text = String::new();
        for line in lines() {
            let left = match (line.state, line.seconds_left) {
                (State::Done, _) => format!("took {}", duration(line.seconds)),
                (_, Some(left)) => format!("about {} left", duration(left)),
                (_, None) => "time unknown".to_owned(),
            };
            text.push_str(&format!(
                "{:width$}  {:<11}  {left}\n",
                line.run,
                line.state.name()
            ));
        }
        let left = match self.seconds_left {
            _ if self.done == self.runs.len() => String::new(),
            Some(left) => format!("; about {} left with one process", duration(left)),
            None => "; the time left is not known before a run of each kind is done".to_owned(),
        };
        text.push_str(&format!(
            "\n{}: {} of {} runs done{left}\n",
            self.benchmark,
            self.done,
            self.runs.len()
        ));
        text
    }
}

fn line(plan: &Plan, run: &Run, record: Option<&Record>, times: &Times) -> anyhow::Result<Line> {
    let config = &run.work.config;
    let training = run.work.training()?;
    let spent = training_seconds(&run.work.folder)?;
    let state = match (record, training) {
        (Some(_), _) => State::Done,
        _ if run.work.is_locked() || run.work.is_training() => State::Running,
        (None, Training::Finished) => State::Trained,
        (None, Training::Begun) => State::Interrupted,
        (None, Training::Missing) => State::Missing,
    };
    let left = times
        .estimate(run)
        .map(|[training_time, measuring]| match training {
            Training::Finished => measuring,
            _ => (training_time - spent).max(0.0) + measuring,
        });
    Ok(Line {
        run: config.name.clone(),
        scenario: Some(plan.scenarios[run.scenario][0].clone()),
        method: Some(run.method.clone()),
        state,
        seconds: record.map_or(spent, |record| {
            record.training_seconds + record.evaluation_seconds.unwrap_or(0.0)
        }),
        seconds_left: match state {
            State::Done => Some(0.0),
            _ => left,
        },
    })
}

/// Those that a run needs which is not done. The time left is that of the others, by epochs and classes.
fn pretrained(plan: &Plan, open: &[&Run]) -> anyhow::Result<Vec<Line>> {
    let needed = |place: &usize| open.iter().any(|run| run.needs.contains(place));
    let mut lines = Vec::new();
    let mut per_epoch = Vec::new();
    for place in (0..plan.pretrainings.len()).filter(needed) {
        let made = &plan.pretrainings[place];
        let spent = training_seconds(&made.folder)?;
        let state = match made.training()? {
            Training::Finished => State::Done,
            _ if made.is_locked() || made.is_training() => State::Running,
            Training::Begun => State::Interrupted,
            Training::Missing if plan.registered.contains(&place) => State::Done,
            Training::Missing => State::Missing,
        };
        let epochs = made.config.training.epochs.max(1) as f64;
        if state == State::Done && spent > 0.0 {
            per_epoch.push(spent / epochs);
        }
        lines.push((
            epochs,
            Line {
                run: made.config.name.clone(),
                scenario: None,
                method: None,
                state,
                seconds: spent,
                seconds_left: Some(0.0),
            },
        ));
    }
    let known =
        (!per_epoch.is_empty()).then(|| per_epoch.iter().sum::<f64>() / per_epoch.len() as f64);
    Ok(lines
        .into_iter()
        .map(|(epochs, line)| Line {
            seconds_left: match line.state {
                State::Done => Some(0.0),
                _ => known.map(|known| (known * epochs - line.seconds).max(0.0)),
            },
            ..line
        })
        .collect())
}

/// A time for people.
fn duration(seconds: f64) -> String {
    let minutes = (seconds / 60.0).round() as u64;
    match minutes {
        0 => format!("{seconds:.0} s"),
        1..=90 => format!("{minutes} min"),
        _ => format!("{} h {} min", minutes / 60, minutes % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn times_are_rounded_to_what_matters() {
        let found = [0.4, 29.0, 61.0, 5_400.0, 5_460.0, 86_400.0].map(duration);
        assert_eq!(
            found,
            ["0 s", "29 s", "1 min", "90 min", "1 h 31 min", "24 h 0 min"]
        );
    }
}
