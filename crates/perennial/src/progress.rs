//! Progress of long work: one bar on a terminal, plain lines elsewhere.

use std::cell::Cell;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use perennial_train::{EpochRecord, StepReport};

use crate::terminal::Terminal;

/// The progress of a training run.
pub struct TrainingProgress {
    terminal: Terminal,
    bar: ProgressBar,
    started: bool,
    title: String,
    tasks: usize,
    epochs: usize,
}

impl TrainingProgress {
    /// `title` names the run, `epochs` counts those of one task.
    pub fn new(terminal: &Terminal, title: &str, epochs: usize) -> Self {
        let bar = terminal.bars().add(ProgressBar::new(0));
        bar.set_style(style("{prefix} [{wide_bar}] {msg}, {eta} left"));
        Self {
            terminal: terminal.clone(),
            bar,
            started: false,
            title: title.to_owned(),
            tasks: 1,
            epochs,
        }
    }

    /// Follows [`perennial_train::Observer::step`].
    pub fn step(&mut self, report: &StepReport) {
        self.tasks = report.task[1];
        self.bar.set_length(report.total);
        self.bar.set_position(report.done);
        if !self.started {
            // The steps before a resume took no time in this process and must not count in the estimate of the time left.
            self.bar.reset_eta();
            self.started = true;
        }
        self.bar
            .set_prefix(self.place(report.task[0], report.epoch[0]));
        self.bar.set_message(format!(
            "loss {:.3}, accuracy {:.1} %, {:.0} images/s",
            report.loss,
            100.0 * report.accuracy,
            report.images_per_second
        ));
    }

    /// Follows [`perennial_train::Observer::epoch`].
    pub fn epoch(&self, record: &EpochRecord) {
        if !self.terminal.draws_bars() {
            self.terminal.say(format_args!(
                "{}: loss {:.3}, accuracy {:.1} %, {:.0} images/s, {:.1} % of the time waiting for data",
                self.place(record.task, record.epoch),
                record.loss,
                100.0 * record.accuracy,
                record.images_per_second,
                100.0 * record.data_wait
            ));
        }
    }

    fn place(&self, task: usize, epoch: usize) -> String {
        let epoch = format!("epoch {}/{}", epoch + 1, self.epochs);
        if self.tasks == 1 {
            return format!("{} {epoch}", self.title);
        }
        format!("{} task {}/{} {epoch}", self.title, task + 1, self.tasks)
    }
}

impl Drop for TrainingProgress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// The progress of work with a known number of units: images, bytes, tests.
pub struct CountedProgress {
    terminal: Terminal,
    bar: ProgressBar,
    title: String,
    unit: &'static str,
    /// What was done before this run, which took it no time.
    earlier: u64,
    begun: Instant,
    told: Cell<Instant>,
}

/// Interval of the progress lines where no bar is drawn.
const LINE_EVERY: Duration = Duration::from_secs(10);

impl CountedProgress {
    pub fn new(
        terminal: &Terminal,
        title: impl Into<String>,
        total: u64,
        unit: &'static str,
    ) -> Self {
        Self::styled(
            terminal,
            title,
            total,
            unit,
            "{prefix} [{wide_bar}] {human_pos}/{human_len} {msg}, {rate}, {eta} left",
        )
    }

    /// The same where an earlier run did part of the work.
    pub fn after(mut self, earlier: u64) -> Self {
        self.bar.set_position(earlier);
        self.bar.reset_eta();
        self.earlier = earlier;
        self
    }

    /// The same for bytes, shown as KiB and MiB.
    #[cfg(feature = "fetch")]
    pub fn bytes(terminal: &Terminal, title: impl Into<String>) -> Self {
        Self::styled(
            terminal,
            title,
            0,
            "bytes",
            "{prefix} [{wide_bar}] {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left",
        )
    }

    fn styled(
        terminal: &Terminal,
        title: impl Into<String>,
        total: u64,
        unit: &'static str,
        template: &str,
    ) -> Self {
        let title = title.into();
        let bar = terminal.bars().add(ProgressBar::new(total));
        bar.set_style(style(template));
        bar.set_prefix(title.clone());
        bar.set_message(unit);
        Self {
            terminal: terminal.clone(),
            bar,
            title,
            unit,
            earlier: 0,
            begun: Instant::now(),
            told: Cell::new(Instant::now()),
        }
    }

    /// Adds to the count done.
    pub fn advance(&self, amount: u64) {
        self.bar.inc(amount);
        if !self.terminal.draws_bars() && self.told.get().elapsed() >= LINE_EVERY {
            self.told.set(Instant::now());
            self.tell();
        }
    }

    /// One line instead of a bar.
    fn tell(&self) {
        let (done, total) = (self.bar.position(), self.bar.length().unwrap_or(0));
        let speed = (done - self.earlier) as f64 / self.begun.elapsed().as_secs_f64().max(1e-9);
        let left = total.saturating_sub(done) as f64 / speed.max(1e-9);
        self.terminal.say(format_args!(
            "{}: {done} of {total} {}, {}, {left:.0} s left",
            self.title,
            self.unit,
            rate(speed)
        ));
    }

    /// Sets the count done and the total.
    #[cfg(feature = "fetch")]
    pub fn set(&self, done: u64, total: Option<u64>) {
        if let Some(total) = total {
            self.bar.set_length(total);
        }
        self.bar.set_position(done);
    }

    /// Prints the rate, and returns the time taken.
    pub fn finish(self) -> Duration {
        let took = self.begun.elapsed();
        let done = self.bar.position() - self.earlier;
        self.terminal.say(format_args!(
            "{}: {done} {} in {:.1} s ({})",
            self.title,
            self.unit,
            took.as_secs_f64(),
            rate(done as f64 / took.as_secs_f64().max(1e-9))
        ));
        took
    }
}

impl Drop for CountedProgress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("the templates of this file are well-formed")
        .with_key(
            "rate",
            |state: &ProgressState, text: &mut dyn std::fmt::Write| {
                let _ = text.write_str(&rate(state.per_sec()));
            },
        )
        .progress_chars("=> ")
}

/// Units per second with the digits that a person reads: whole ones, or one decimal below 10.
fn rate(per_second: f64) -> String {
    match per_second < 10.0 {
        true => format!("{per_second:.1}/s"),
        false => format!("{per_second:.0}/s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_the_digits_that_a_person_reads() {
        assert_eq!(rate(14.551), "15/s");
        assert_eq!(rate(0.25), "0.2/s");
        assert_eq!(rate(123_456.7), "123457/s");
    }
}
