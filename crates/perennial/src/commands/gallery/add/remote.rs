//! The gallery of a running service, whose live version embeds the images.
//!
//! For a network that was trained here, a picture is sent as the square that it takes, in a lossless file, which is small and embedded exactly as
//! the picture itself; for encoders of other programs, the file is sent as it is.

use anyhow::Context;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use perennial_core::Embeddings;
use perennial_data::ImageSet;
use perennial_encode::{Picture, encode_png};
use perennial_gallery::{ItemId, StoredItem, Upserted};
use perennial_upgrade::LIVE_ALIAS;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::destination::{Content, Destination, MAX_CALL, NewPicture, StoredPicture, keys};
use super::origin::check_origin;
use crate::commands::gallery::remote;
use crate::exit_status::usage;
use crate::interrupt::Interrupt;
use crate::progress::CountedProgress;
use crate::service_client::{Reply, ServiceClient, query_value};

/// Items of one page while the gallery is looked through.
const PAGE: usize = 500;
/// Bytes of the ids in one address: the whole address stays below the limits of common proxies.
const IDS_BYTES: usize = 2000;
/// Memory that the pictures of one batch may take as squares, in bytes.
const SQUARES_BYTES: usize = 16 << 20;
/// Ids that a service is asked for at once, in an address.
pub const IDS_OF_ONE_QUERY: usize = 50;
/// Images of one request; the default limit of a service is 128.
const IMAGES: usize = 64;
/// Bytes of one request, about; the default limit of a service is 32 MiB.
const REQUEST_BYTES: usize = 8 << 20;
/// Characters of one value of an embedding as JSON, about.
const VALUE_BYTES: usize = 14;

/// A service's gallery and its live version, for one command.
pub struct Remote<'a> {
    client: &'a ServiceClient,
    force: bool,
    interrupt: Interrupt,
    /// The live version when the command began. The service refuses images for it once another one is live.
    version: String,
    /// Channels, height and width of the images that its network is given; none for an encoder of texts.
    input: Option<[usize; 3]>,
    /// The side of the squares that it takes, where it is a network that was trained here.
    side: Option<usize>,
}

/// What a service without this field has.
fn network() -> String {
    NETWORK.to_owned()
}

/// What `encoder` says about networks that were trained here.
const NETWORK: &str = "network";

impl<'a> Remote<'a> {
    /// Asks for the live version.
    ///
    /// **Errors**: a service without live version, another one than `model`, or one that takes no square images.
    pub fn new(
        client: &'a ServiceClient,
        model: &str,
        force: bool,
        interrupt: Interrupt,
    ) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct Models {
            live: Option<String>,
            models: Vec<Model>,
        }
        #[derive(Deserialize)]
        struct Model {
            name: String,
            #[serde(default = "network")]
            encoder: String,
            input: Option<[usize; 3]>,
        }
        let models: Models = client.get("/models")?.read()?;
        let version = models.live.ok_or_else(|| {
            usage(format!(
                "{} has no live version; promote one with `perennial models promote VERSION --server {0}`",
                client.url()
            ))
        })?;
        if model != LIVE_ALIAS && model != version {
            return Err(usage(format!(
                "--model {model}: a service embeds with its live version, {version}; remove --model, or promote {model}"
            )));
        }
        let live = models.models.iter().find(|model| model.name == version);
        let live =
            live.with_context(|| format!("{} does not list its live version", client.url()))?;
        let input = live.input;
        let network = input.filter(|_| live.encoder == NETWORK);
        if let Some(input) = network.filter(|input| input[1] != input[2]) {
            return Err(usage(format!(
                "version {version} takes inputs of {input:?} (channels, height, width); pictures become squares"
            )));
        }
        let side = network.map(|input| input[1]);
        Ok(Self {
            client,
            force,
            interrupt,
            version,
            input,
            side,
        })
    }

    /// Sends every image of a set. Returns how many items are new and how many took the place of another.
    pub fn add_set(
        &self,
        set: &ImageSet,
        prefix: &str,
        payload: &Map<String, Value>,
        progress: &CountedProgress,
    ) -> anyhow::Result<(usize, usize)> {
        let fits = |input: [usize; 3]| set.shape()[1..] == input[1..];
        if self.side.is_some() && !self.input.is_some_and(fits) {
            return Err(usage(format!(
                "the images are {:?}, version {} takes {:?} (channels, height, width)",
                set.shape(),
                self.version,
                self.input.unwrap_or_default()
            )));
        }
        let (mut inserted, mut replaced) = (0, 0);
        for start in (0..set.len()).step_by(IMAGES) {
            let end = set.len().min(start + IMAGES);
            let items = (start..end).map(|row| {
                let png = encode_png(set.image(row), set.shape())?;
                Ok(json!({
                    "id": format!("{prefix}/{row}"),
                    "image": BASE64_STANDARD.encode(png),
                    "model_version": self.version,
                    "label": set.label(row),
                    "payload": payload,
                }))
            });
            let stored = self.upsert(items.collect::<anyhow::Result<_>>()?)?;
            inserted += stored.inserted;
            replaced += stored.replaced;
            progress.advance((end - start) as u64);
            self.interrupt.check()?;
        }
        Ok((inserted, replaced))
    }

    /// **Errors**: a live version that embeds no pictures.
    pub fn check_pictures(&self) -> anyhow::Result<()> {
        match self.input {
            Some(_) => Ok(()),
            None => Err(usage(format!(
                "version {} embeds texts, not pictures; store texts with --table",
                self.version
            ))),
        }
    }

    /// Stores items as the service takes them. Returns how many are new and how many took the place of another.
    pub fn store_items(&self, items: Vec<Value>) -> anyhow::Result<(usize, usize)> {
        let stored = self.upsert(items)?;
        Ok((stored.inserted, stored.replaced))
    }

    /// **Errors**: one of the ids belongs to an item that came from elsewhere.
    pub fn check_origins(&self, ids: &[&ItemId], origin: &str) -> anyhow::Result<()> {
        for ids in ids.chunks(IDS_OF_ONE_QUERY) {
            list(self.client, &json!({ "ids": ids }), &mut |item| {
                check_origin(&item, origin)
            })?;
        }
        Ok(())
    }

    fn upsert(&self, items: Vec<Value>) -> anyhow::Result<Upserted> {
        upsert(self.client, items, self.force, self.interrupt)
    }

    /// Calls `each` for every item that passes a filter.
    fn list(
        &self,
        filter: &Value,
        each: &mut dyn FnMut(StoredPicture) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        list(self.client, filter, &mut |item| each(known(item)))
    }
}

impl Destination for Remote<'_> {
    fn model_version(&self) -> &str {
        &self.version
    }

    fn batch(&self) -> usize {
        let square = self.side.map_or(0, |side| 3 * side.saturating_mul(side));
        (SQUARES_BYTES / square.max(1)).clamp(8, MAX_CALL)
    }

    fn content(&self, file: &[u8], picture: &Picture) -> anyhow::Result<Content> {
        let file = match self.side {
            Some(side) => encode_png(&picture.square(side)?, [3, side, side])?,
            None => file.to_vec(),
        };
        Ok(Content::File(file))
    }

    fn stored_from(
        &self,
        root: &str,
        each: &mut dyn FnMut(StoredPicture) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.list(&json!({ "payload": { (keys::ROOT): root } }), each)
    }

    fn stored_as(&self, ids: &[String]) -> anyhow::Result<Vec<StoredPicture>> {
        let mut found = Vec::new();
        let mut rest = ids;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = rest.iter().take_while(|id| {
                bytes += id.len() + 3;
                bytes <= IDS_BYTES
            });
            let (now, later) = rest.split_at(fits.count().max(1));
            self.list(&json!({ "ids": now }), &mut |item| {
                found.push(item);
                Ok(())
            })?;
            rest = later;
        }
        Ok(found)
    }

    fn store(&self, pictures: Vec<NewPicture>) -> anyhow::Result<Upserted> {
        let mut total = Upserted::default();
        let mut pictures = pictures.into_iter().peekable();
        while pictures.peek().is_some() {
            let (mut items, mut bytes) = (Vec::new(), 0);
            while items.len() < IMAGES
                && bytes < REQUEST_BYTES
                && let Some(picture) = pictures.next()
            {
                let Content::File(file) = picture.content else {
                    anyhow::bail!("{}: is no file to send", picture.id);
                };
                let image = BASE64_STANDARD.encode(file);
                bytes += image.len();
                items.push(json!({
                    "id": picture.id,
                    "image": image,
                    "model_version": self.version,
                    "label": picture.label,
                    "payload": picture.payload,
                }));
            }
            let stored = self.upsert(items)?;
            total.inserted += stored.inserted;
            total.replaced += stored.replaced;
            self.interrupt.check()?;
        }
        Ok(total)
    }

    fn delete(&self, ids: &[String]) -> anyhow::Result<usize> {
        #[derive(Deserialize)]
        struct Answer {
            deleted: usize,
        }
        if ids.is_empty() {
            return Ok(0);
        }
        let answer: Answer = self
            .client
            .delete("/gallery/items", &json!({ "ids": ids }))?
            .read()?;
        Ok(answer.deleted)
    }

    fn finish(&self) -> anyhow::Result<u64> {
        // The service responds only after its items are on disk.
        Ok(remote::stats(self.client)?.items)
    }
}

/// Sends embeddings. Returns how many items are new and how many took the place of another.
pub fn add_embeddings(
    client: &ServiceClient,
    embeddings: &Embeddings,
    id: impl Fn(u64) -> ItemId,
    force: bool,
    interrupt: Interrupt,
    progress: &CountedProgress,
) -> anyhow::Result<(usize, usize)> {
    let batch = (REQUEST_BYTES / (VALUE_BYTES * embeddings.dim() + 100)).clamp(1, 1000);
    let (mut inserted, mut replaced) = (0, 0);
    for start in (0..embeddings.len()).step_by(batch) {
        let end = embeddings.len().min(start + batch);
        let items = (start..end).map(|row| {
            json!({
                "id": id(embeddings.ids()[row]),
                "embedding": embeddings.row(row),
                "model_version": embeddings.model_version(),
                "label": embeddings.labels().map(|labels| labels[row]),
            })
        });
        let stored = upsert(client, items.collect(), force, interrupt)?;
        inserted += stored.inserted;
        replaced += stored.replaced;
        progress.advance((end - start) as u64);
        interrupt.check()?;
    }
    Ok((inserted, replaced))
}

/// Stores items, in smaller requests if the service rejects larger ones. Items stored before an interruption stay.
fn upsert(
    client: &ServiceClient,
    items: Vec<Value>,
    force: bool,
    interrupt: Interrupt,
) -> anyhow::Result<Upserted> {
    #[derive(Deserialize)]
    struct Answer {
        inserted: usize,
        replaced: usize,
    }
    let mut total = Upserted::default();
    let mut waiting = vec![items];
    while let Some(mut items) = waiting.pop() {
        let body = json!({ "items": items, "force": force });
        let reply = client.post_patiently("/gallery/items:batch", &body, interrupt)?;
        drop(body);
        if is_too_much(&reply) && items.len() > 1 {
            let second = items.split_off(items.len() / 2);
            waiting.push(second);
            waiting.push(items);
            continue;
        }
        let answer: Answer = reply.read()?;
        total.inserted += answer.inserted;
        total.replaced += answer.replaced;
    }
    Ok(total)
}

/// Whether a smaller request may succeed: this one has too many bytes, items or images.
fn is_too_much(reply: &Reply) -> bool {
    reply.status == 413 || (reply.status == 422 && reply.message().contains("expected 1 to "))
}

/// Calls `each` for every item that passes a filter, without thumbnails.
pub fn list(
    client: &ServiceClient,
    filter: &Value,
    each: &mut dyn FnMut(StoredItem) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct Page {
        items: Vec<StoredItem>,
        next: Option<ItemId>,
    }
    let base = format!(
        "/gallery/items?limit={PAGE}&without={}&filter={}",
        keys::THUMBNAIL,
        query_value(&filter.to_string())
    );
    let mut path = base.clone();
    loop {
        let page: Page = client.get(&path)?.read()?;
        for item in page.items {
            each(item)?;
        }
        let after = match page.next {
            None => return Ok(()),
            Some(ItemId::Number(number)) => number.to_string(),
            // In quotes, no text looks like a number.
            Some(ItemId::Text(text)) => json!(text).to_string(),
        };
        path = format!("{base}&after={}", query_value(&after));
    }
}

fn known(item: StoredItem) -> StoredPicture {
    let id = item.id.to_string();
    StoredPicture::new(id, item.model_version, item.label, &item.payload)
}
