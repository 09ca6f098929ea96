//! Terminal output: results to stdout, everything else to stderr, around the progress bars.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use indicatif::{MultiProgress, ProgressDrawTarget};
use serde::Serialize;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::log_filter::LogFilter;

/// `schema_version` of the JSON that commands print.
const SCHEMA_VERSION: u32 = 1;
/// What is logged at INFO without `PERENNIAL_LOG`; everything else is at WARN.
const INFORMATIVE: [&str; 3] = ["perennial", "perennial_train", "perennial_data"];

/// Logged at ERROR with every filter of [`LogFormat::Json`]: the error that ends the program, and panics.
const ALWAYS_LOGGED: &str = "perennial::terminal";

/// How log events are written to stderr.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines of text.
    #[default]
    Text,
    /// Lines of text that begin with the time, for the service.
    TimedText,
    /// One JSON object per line. Errors that end the program, and panics, are events too, so that every line is JSON.
    Json,
}

/// Standard output and standard error of one command.
#[derive(Clone)]
pub struct Terminal {
    quiet: bool,
    json: bool,
    log_format: LogFormat,
    bars: MultiProgress,
}

impl Terminal {
    pub fn new(quiet: bool, json: bool) -> Self {
        // Bars show themselves only where stderr is a terminal.
        let target = if quiet {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        Self {
            quiet,
            json,
            log_format: LogFormat::default(),
            bars: MultiProgress::with_draw_target(target),
        }
    }

    /// Sends log events to stderr, those that pass the filter or, without one, the default filter. Call it once.
    pub fn start_logging(&mut self, format: LogFormat, filter: Option<&LogFilter>) {
        self.log_format = format;
        let mut filter = match filter {
            Some(filter) => filter.targets(),
            None if self.quiet => Targets::new().with_default(LevelFilter::WARN),
            None => Targets::new()
                .with_default(LevelFilter::WARN)
                .with_targets(INFORMATIVE.map(|target| (target, LevelFilter::INFO))),
        };
        if format == LogFormat::Json {
            filter = filter.with_target(ALWAYS_LOGGED, LevelFilter::ERROR);
        }
        let registry = tracing_subscriber::registry().with(filter);
        let lines = tracing_subscriber::fmt::layer()
            .with_ansi(colored(&io::stderr()))
            .with_target(false)
            .with_writer(AroundBars(self.bars.clone()));
        match format {
            LogFormat::Text => registry.with(lines.without_time()).init(),
            LogFormat::TimedText => registry.with(lines).init(),
            LogFormat::Json => {
                let lines = lines
                    .json()
                    .flatten_event(true)
                    .with_span_list(false)
                    .with_target(true);
                registry.with(lines).init();
                log_panics();
            }
        }
    }

    /// Prints a result: with `--json` as an object with `schema_version`, otherwise as text; the argument of `text` is whether to
    /// use colour.
    pub fn result(
        &self,
        value: &impl Serialize,
        text: impl FnOnce(bool) -> String,
    ) -> anyhow::Result<()> {
        #[derive(Serialize)]
        struct Versioned<'a, T> {
            schema_version: u32,
            #[serde(flatten)]
            value: &'a T,
        }
        let versioned = Versioned {
            schema_version: SCHEMA_VERSION,
            value,
        };
        let json = || serde_json::to_string_pretty(&versioned);
        self.document(json, text)
    }

    /// Prints a result that brings its own JSON document.
    pub fn document(
        &self,
        json: impl FnOnce() -> serde_json::Result<String>,
        text: impl FnOnce(bool) -> String,
    ) -> anyhow::Result<()> {
        let mut output = if self.json {
            json()?
        } else {
            text(colored(&io::stdout()))
        };
        if !output.ends_with('\n') {
            output.push('\n');
        }
        Ok(self.bars.suspend(|| print(output.as_bytes()))?)
    }

    /// Prints a part of a result that is text, ahead of the rest; with `--json` there is only the rest.
    pub fn tell(&self, text: &str) -> anyhow::Result<()> {
        if !self.json {
            self.bars.suspend(|| print(text.as_bytes()))?;
        }
        Ok(())
    }

    /// Prints a status line to stderr.
    pub fn say(&self, line: impl Display) {
        if !self.quiet {
            self.write_line(&line);
        }
    }

    /// Prints an error to stderr.
    pub fn error(&self, line: &str) {
        match self.log_format {
            LogFormat::Json => tracing::error!("{line}"),
            _ => self.write_line(&format_args!("error: {line}")),
        }
    }

    /// Where progress bars are drawn.
    pub fn bars(&self) -> &MultiProgress {
        &self.bars
    }

    /// Whether progress shows as bars; otherwise it is printed as lines.
    pub fn draws_bars(&self) -> bool {
        !self.quiet && io::stderr().is_terminal()
    }

    fn write_line(&self, line: &dyn Display) {
        // A closed stderr is not an error.
        self.bars.suspend(|| {
            let _ = writeln!(io::stderr(), "{line}");
        });
    }
}

/// Writes to stdout; a reader that went away, such as `head`, is no error.
pub fn print(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

fn colored(stream: &impl IsTerminal) -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    stream.is_terminal() && !refused
}

/// Panics as log events instead of the standard library's text.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let backtrace = Backtrace::capture();
        tracing::error!(
            thread = thread.name(),
            location = panic.location().map(tracing::field::display),
            backtrace = (backtrace.status() == BacktraceStatus::Captured)
                .then(|| tracing::field::display(&backtrace)),
            "panic: {}",
            panic.payload_as_str().unwrap_or("no message")
        );
    }));
}

/// Log lines go above the bars instead of through them.
struct AroundBars(MultiProgress);

impl<'a> MakeWriter<'a> for AroundBars {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        LineWriter(&self.0)
    }
}

struct LineWriter<'a>(&'a MultiProgress);

impl Write for LineWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write(bytes))
    }

    /// In one piece: a line must not be cut by another thread's.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.suspend(|| io::stderr().lock().write_all(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
