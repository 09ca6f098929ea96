//! A backfill in a service, whose originals lie here and are sent.

use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use perennial_encode::{Kind, kind};
use perennial_gallery::{ItemId, StoredItem};
use perennial_upgrade::backfill::{
    Answer, BackfillSettings, FolderOriginals, Found, Originals, held_text, next_items_at,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::remote::{start, status};
use super::report::Report;
use crate::exit_status::usage;
use crate::interrupt::Interrupt;
use crate::progress::CountedProgress;
use crate::service_client::ServiceClient;
use crate::terminal::Terminal;

/// Items that are asked for at once.
const ASKED: usize = 64;
/// Bytes of pictures from which on a request takes no further one.
const REQUEST_BYTES: u64 = 8 << 20;
/// Bytes of a request besides its pictures, at most: ids, and why pictures are missing.
const ENVELOPE_BYTES: u64 = 64 << 10;

#[derive(Deserialize)]
struct Waiting {
    items: Vec<WaitingItem>,
}

#[derive(Deserialize)]
struct WaitingItem {
    id: ItemId,
    model_version: String,
    payload: Map<String, Value>,
}

impl WaitingItem {
    /// As far as a source of originals needs it.
    fn stored(self) -> StoredItem {
        StoredItem {
            id: self.id,
            model_version: self.model_version,
            label: None,
            payload: self.payload,
            embedding: None,
        }
    }
}

#[derive(Deserialize)]
struct Pushed {
    done: u64,
    changed: u64,
    not_waiting: u64,
    failed: Vec<Value>,
}

/// Begins, and sends originals until nothing waits any more. Ctrl-C pauses it.
pub fn run(
    client: &ServiceClient,
    folder: &Path,
    settings: &BackfillSettings,
    retry: bool,
    interrupt: Interrupt,
    terminal: &Terminal,
) -> anyhow::Result<Report> {
    let info = client.get("/info")?.accepted()?;
    let limit = |key: &str| info["limits"][key].as_u64().unwrap_or(u64::MAX);
    // Pictures are sent as base64, which has four bytes for three.
    let room = limit("body_bytes").saturating_sub(ENVELOPE_BYTES) / 4 * 3;
    let largest = limit("image_bytes").min(room);
    // As long as a request has no more than this, it has room for one more picture.
    let bytes = REQUEST_BYTES.min(room - largest);
    let originals = FolderOriginals::open(folder, largest)
        .map_err(|problem| usage(problem.replace("originals.folder", "--originals")))?;
    let begun = start(client, settings, retry)?;
    let title = format!("{} to {}", folder.display(), client.url());
    let progress = CountedProgress::new(terminal, title, begun.left, "items");
    loop {
        if interrupt.pressed() {
            // It may have ended by itself meanwhile.
            let _ = client.post("/backfill/pause", &json!({}));
            interrupt.check()?;
        }
        let now = status(client)?;
        if now.state != "running" {
            progress.finish();
            return Ok(now);
        }
        let reply = client.get(&format!("/backfill/waiting?limit={ASKED}"))?;
        if reply.status == 409 {
            continue;
        }
        let waiting: Waiting = reply.read()?;
        if waiting.items.is_empty() {
            // The service notices that itself.
            std::thread::sleep(Duration::from_millis(100));
            continue;
        }
        let mut waiting = waiting
            .items
            .into_iter()
            .map(WaitingItem::stored)
            .peekable();
        while waiting.peek().is_some() && !interrupt.pressed() {
            let began = Instant::now();
            let items = request(&originals, &mut waiting, settings.items_per_second, bytes);
            let count = items.len();
            let body = json!({ "items": items });
            let reply = loop {
                let reply = client.put("/backfill/originals", &body)?;
                // The requests of others come first.
                let busy = reply.status == 429;
                if !busy {
                    break Some(reply);
                }
                if interrupt.pressed() {
                    break None;
                }
                std::thread::sleep(Duration::from_millis(200));
            };
            // Nothing was taken: it is paused where the loop begins, or has ended.
            let Some(reply) = reply.filter(|reply| reply.status != 409) else {
                break;
            };
            let pushed: Pushed = reply.read()?;
            let handled = pushed.done + pushed.changed + pushed.not_waiting;
            progress.advance(handled + pushed.failed.len() as u64);
            if let Some(rate) = settings.items_per_second {
                let until = next_items_at(began, count, rate);
                while Instant::now() < until && !interrupt.pressed() {
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
            if settings.stop != Default::default() && status(client)?.state != "running" {
                break;
            }
        }
    }
}

/// The originals of the next items, as many as one request takes.
fn request(
    originals: &FolderOriginals,
    waiting: &mut impl Iterator<Item = StoredItem>,
    rate: Option<f64>,
    enough_bytes: u64,
) -> Vec<Value> {
    const ITEMS: usize = 8;
    let items = rate.map_or(ITEMS, |rate| (rate.ceil() as usize).clamp(1, ITEMS));
    let mut bytes = 0;
    let mut request = Vec::new();
    while request.len() < items && bytes <= enough_bytes {
        let Some(item) = waiting.next() else {
            break;
        };
        let found = match held_text(&item.payload) {
            Some(text) => Ok(Found::Text(text.to_owned())),
            None => originals.fetch(&item),
        };
        // The service knows what an item was made of, and refuses what is of another kind.
        let file = found.map(|found| match found {
            Found::Text(text) => Ok(text),
            Found::File(file) | Found::Answer(Answer { file, .. }) => match kind(&file) {
                Kind::Unknown => String::from_utf8(file).map_err(|error| error.into_bytes()),
                _ => Err(file),
            },
        });
        request.push(match file {
            Ok(Ok(text)) => {
                bytes += text.len() as u64;
                json!({ "id": item.id, "text": text })
            }
            Ok(Err(file)) => {
                bytes += file.len() as u64;
                json!({ "id": item.id, "image": BASE64_STANDARD.encode(file) })
            }
            Err(failure) => {
                json!({ "id": item.id, "reason": failure.reason, "detail": failure.detail })
            }
        });
    }
    request
}
