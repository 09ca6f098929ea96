//! Progress of work in a database, and Ctrl-C.

use std::sync::Arc;

use perennial_connect::{Observer, StopSignal};

use crate::interrupt::Interrupt;
use crate::progress::CountedProgress;
use crate::terminal::Terminal;

pub struct Follow<'a> {
    terminal: &'a Terminal,
    interrupt: Interrupt,
    title: &'static str,
    unit: &'static str,
    progress: Option<CountedProgress>,
    done: u64,
}

impl<'a> Follow<'a> {
    pub fn new(terminal: &'a Terminal, title: &'static str) -> anyhow::Result<Self> {
        Ok(Self::heard_by(Interrupt::listen()?, terminal, title))
    }

    /// Of a command that listens already.
    pub fn heard_by(interrupt: Interrupt, terminal: &'a Terminal, title: &'static str) -> Self {
        Self {
            terminal,
            interrupt,
            title,
            unit: "rows",
            progress: None,
            done: 0,
        }
    }

    /// Counts something else than rows.
    pub fn of(self, unit: &'static str) -> Self {
        Self { unit, ..self }
    }

    /// Prints the rate.
    pub fn finish(self) {
        if let Some(progress) = self.progress {
            progress.finish();
        }
    }
}

impl Observer for Follow<'_> {
    fn rows(&mut self, done: u64, total: Option<u64>) {
        let progress = self.progress.get_or_insert_with(|| {
            CountedProgress::new(self.terminal, self.title, total.unwrap_or(0), self.unit)
        });
        progress.advance(done.saturating_sub(self.done));
        self.done = done;
    }

    fn note(&mut self, text: &str) {
        self.terminal.say(text);
    }

    fn stopped(&self) -> bool {
        self.interrupt.pressed()
    }

    fn stop_signal(&self) -> Option<StopSignal> {
        let interrupt = self.interrupt;
        Some(Arc::new(move || interrupt.pressed()))
    }
}
