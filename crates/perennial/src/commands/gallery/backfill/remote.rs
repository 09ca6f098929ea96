//! A backfill that a service carries out.

use std::time::{Duration, Instant};

use perennial_upgrade::backfill::{BackfillSettings, OriginalsSource};
use serde_json::{Value, json};

use super::action::Action;
use super::report::Report;
use crate::interrupt::Interrupt;
use crate::progress::CountedProgress;
use crate::service_client::ServiceClient;
use crate::terminal::Terminal;

/// How often the service is asked how far it is.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// The state of the service's backfill.
pub fn status(client: &ServiceClient) -> anyhow::Result<Report> {
    client.get("/backfill")?.read()
}

/// Shows or changes the state.
pub fn act(client: &ServiceClient, action: Action) -> anyhow::Result<Report> {
    match action {
        Action::Status => status(client),
        Action::Pause => client.post("/backfill/pause", &json!({}))?.read(),
        Action::Resume => client.post("/backfill/resume", &json!({}))?.read(),
        Action::Cancel => client.delete("/backfill", &json!({}))?.read(),
    }
}

/// Begins.
pub fn start(
    client: &ServiceClient,
    settings: &BackfillSettings,
    retry: bool,
) -> anyhow::Result<Report> {
    let mut body = serde_json::to_value(settings)?;
    if let Value::Object(body) = &mut body {
        body.insert("retry".to_owned(), json!(retry));
    }
    client.post("/backfill", &body)?.read()
}

/// Begins, and follows until it ends. Ctrl-C ends the following only.
pub fn run(
    client: &ServiceClient,
    mut settings: BackfillSettings,
    retry: bool,
    interrupt: Interrupt,
    terminal: &Terminal,
) -> anyhow::Result<Report> {
    if let OriginalsSource::Folder(folder) = &mut settings.originals {
        // The service has another working directory.
        *folder = std::path::absolute(&*folder)?;
    }
    let begun = start(client, &settings, retry)?;
    let title = format!("backfill in {}", client.url());
    let progress = CountedProgress::new(terminal, title, begun.left, "items");
    let mut shown = begun.done;
    loop {
        let now = status(client)?;
        progress.advance(now.done.saturating_sub(shown));
        shown = shown.max(now.done);
        if now.state != "running" {
            progress.finish();
            return Ok(now);
        }
        let until = Instant::now() + ASK_EVERY;
        while Instant::now() < until {
            if interrupt.pressed() {
                terminal.say(format_args!(
                    "the service goes on; `perennial gallery backfill pause --server {}` pauses it",
                    client.url()
                ));
                interrupt.check()?;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
