//! `perennial gallery search`.

mod local;

use std::cell::RefCell;
use std::path::PathBuf;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use clap::ArgGroup;
use perennial_encode::{DecodeLimits, Input, InputType};
use perennial_gallery::{Filter, ItemId, LabelFilter};
use perennial_upgrade::LIVE_ALIAS;
use serde_json::json;

use self::local::LocalSearch;
use super::given::{given, parse_id, parse_label};
use super::remote::{self, Found, SecondStage};
use super::rules::certification;
use super::version_names;
use crate::arguments::GlobalArguments;
use crate::exit_status::{ExitStatus, usage};
use crate::gallery_folder::GalleryArguments;
use crate::model_loading::VersionLoader;
use crate::service_client::ServiceClient;
use crate::terminal::Terminal;

/// The largest image file that is read.
const MAX_IMAGE_BYTES: u64 = perennial_data::pictures::MAX_FILE_BYTES;

#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("query").required(true).args(["image", "text", "id"]))]
pub struct Arguments {
    /// Query image: PNG, JPEG, WebP, GIF, BMP or TIFF
    image: Option<PathBuf>,
    /// Query text, for a version that embeds texts
    #[arg(long)]
    text: Option<String>,
    /// Stored item to use as the query: digits without a leading zero are a numeric id, anything else is a text id; write '"12"'
    /// for the text id 12
    #[arg(long, allow_negative_numbers = true, value_parser = parse_id)]
    id: Option<ItemId>,
    /// Model version that embeds the query image or text: name or alias
    #[arg(long, value_name = "VERSION", default_value = "live")]
    model: String,
    /// Maximum number of results
    #[arg(long, default_value_t = 10)]
    limit: usize,
    /// Search only items of this model version (name or alias); repeatable
    #[arg(long, value_name = "VERSION")]
    model_version: Vec<String>,
    /// Search only items with this label, a whole number; repeatable
    #[arg(long, value_parser = parse_label)]
    label: Vec<u32>,
    /// In a service that knows the originals: embed the first N hits again with the live version, and put them in its order
    #[arg(long, value_name = "N")]
    rerank: Option<usize>,
    /// Search stored versions of the query's dimension even where no route is certified
    #[arg(long)]
    force: bool,
}

pub fn run(
    arguments: &Arguments,
    gallery: &GalleryArguments,
    client: Option<&ServiceClient>,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    if let Some(client) = client {
        let found = search_service(arguments, gallery.exact, client)?;
        terminal.result(&found, |_| table(&found))?;
        return Ok(ExitStatus::Done);
    }
    if arguments.rerank.is_some() {
        return Err(usage(
            "--rerank: only a service that knows the originals (`originals` in its configuration) ranks anew; pass --server URL",
        ));
    }
    let registry = global.open_registry()?;
    let rules = certification(&registry, gallery)?;
    let gallery = gallery.open_read_only()?;
    let mut filter = filter(arguments);
    filter.model_versions =
        version_names::resolve(filter.model_versions, Some(&registry), &gallery)?;
    let search = LocalSearch {
        registry: &registry,
        rules: &rules,
        gallery: &gallery,
        loader: &VersionLoader::of(global)?,
        filter: &filter,
        limit: arguments.limit,
        force: arguments.force,
        terminal,
        mapped: RefCell::default(),
    };
    let found = match (&arguments.image, &arguments.text, &arguments.id) {
        (Some(image), ..) => {
            let bytes = perennial_core::read_at_most(image, MAX_IMAGE_BYTES)
                .map_err(|error| usage(error.to_string()))?;
            let input = Input::Picture {
                file: &bytes,
                limits: DecodeLimits::FILES,
            };
            let place = image.display().to_string();
            search.by_input(&place, input, registry.get(&arguments.model)?)?
        }
        (None, Some(text), _) => {
            let input = Input::Text {
                text,
                input_type: InputType::Query,
            };
            search.by_input("--text", input, registry.get(&arguments.model)?)?
        }
        (None, None, Some(id)) => search.by_item(id)?,
        (None, None, None) => return Err(usage("no query; pass an image, --text or --id")),
    };
    terminal.result(&found, |_| table(&found))?;
    Ok(ExitStatus::Done)
}

fn filter(arguments: &Arguments) -> Filter {
    Filter {
        model_versions: given(&arguments.model_version),
        labels: given(&arguments.label).map(LabelFilter::any_of),
        ..Filter::default()
    }
}

/// Lets a running service embed the query and search.
fn search_service(
    arguments: &Arguments,
    exact: bool,
    client: &ServiceClient,
) -> anyhow::Result<Found> {
    if arguments.id.is_none() && arguments.model != LIVE_ALIAS {
        return Err(usage(
            "--model: a service embeds queries with its live version; remove --model",
        ));
    }
    let mut query = json!({
        "limit": arguments.limit,
        "filter": filter(arguments),
        "exact": exact,
        "force": arguments.force,
    });
    if let Some(image) = &arguments.image {
        let bytes = perennial_core::read_at_most(image, MAX_IMAGE_BYTES)
            .map_err(|error| usage(error.to_string()))?;
        query["image"] = json!(BASE64_STANDARD.encode(bytes));
    }
    if let Some(text) = &arguments.text {
        query["text"] = json!(text);
    }
    if let Some(id) = &arguments.id {
        query["id"] = json!(id);
    }
    if let Some(hits) = arguments.rerank {
        query["rerank"] = json!(hits);
    }
    let shown = |error| match &arguments.image {
        Some(image) => anyhow::Error::context(error, image.display().to_string()),
        None => error,
    };
    remote::search(client, &query).map_err(shown)
}

fn ranked_anew(stage: &SecondStage) -> String {
    let failed = stage.failed.iter();
    let mut left: Vec<String> = failed
        .map(|(reason, hits)| format!("{hits} {reason}"))
        .collect();
    if stage.out_of_time > 0 {
        left.push(format!("{} out of time", stage.out_of_time));
    }
    let left = match left.is_empty() {
        true => String::new(),
        false => format!("; kept their places: {}", left.join(", ")),
    };
    format!(
        "ranked anew by the live version: {} of {} hits, {} embedded for it{left}; originals fetched in {:.2} s, embedded in {:.2} s\n",
        stage.known + stage.embedded,
        stage.hits,
        stage.embedded,
        stage.fetch_seconds,
        stage.embed_seconds
    )
}

/// The hits, then how the parts were searched if there are several, then what was not searched.
fn table(found: &Found) -> String {
    let mut text = format!("queried by {}\n", found.model_version);
    if !found.hits.is_empty() {
        text.push_str(&format!(
            "{:<6}  {:>7}  {:<24}  {:<12}  space\n",
            "score", "z-score", "id", "label"
        ));
    }
    for hit in &found.hits {
        let label = hit
            .label
            .map_or_else(|| "-".to_owned(), |label| label.to_string());
        let own = hit
            .own_score
            .map_or_else(String::new, |own| format!(", {own:.4} by the live version"));
        text.push_str(&format!(
            "{:.4}  {:+7.2}  {:<24}  label {label:<6}  {} by route {}{own}\n",
            hit.score,
            hit.standard_score,
            hit.id.to_string(),
            hit.space,
            hit.route
        ));
    }
    if let Some(stage) = &found.second_stage {
        text.push_str(&ranked_anew(stage));
    }
    let several = found.parts.len() > 1;
    if several {
        let by_scale = found.hits.iter().any(|hit| hit.merged_score.is_some());
        text.push_str(match by_scale {
            true => "ranked by similarity on the scale of the query's own space, by the merge that was measured best for a route; second figure: above what is usual, in standard deviations\n",
            false => "ranked by the second figure: similarity less what is usual for the query in its part, in standard deviations\n",
        });
    }
    for part in &found.parts {
        let spaces = part.spaces.join(" and ");
        if several {
            let (items, route) = (part.items, &part.route);
            let merge = part.merge.as_ref();
            let shift = match part.merge_shift {
                None | Some(0.0) => String::new(),
                Some(shift) => format!(" {shift:+.3}"),
            };
            let merge =
                merge.map_or_else(String::new, |merge| format!(", merged by {merge}{shift}"));
            text.push_str(&format!(
                "searched {items} items of {spaces} by route {route}{merge}\n"
            ));
        }
        if let Some(fallback) = &part.fallback {
            text.push_str(&format!("{spaces}: not by the best route: {fallback}\n"));
        }
    }
    for left in &found.left_out {
        text.push_str(&format!(
            "{} stored items of {} were not searched: {}\n",
            left.items, left.space, left.reason
        ));
        if let Some(command) = &left.remedy {
            text.push_str(&format!("to measure the pair, run `{command}`\n"));
        }
    }
    text
}
