//! `perennial gallery stats`.

use perennial_gallery::{
    GalleryStats, IndexKind, IndexProgress, IndexState, Maintenance, PartitionStats,
};
use perennial_upgrade::{Asking, LIVE_ALIAS, Need, SearchPlan, Stored};
use serde::{Deserialize, Serialize};

use super::remote::LeftOut;
use super::rules::certification;
use crate::arguments::GlobalArguments;
use crate::exit_status::ExitStatus;
use crate::gallery_folder::GalleryArguments;
use crate::service_client::ServiceClient;
use crate::terminal::Terminal;

/// Size and state of a gallery, and what of it the live version leads to.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    #[serde(flatten)]
    stats: GalleryStats,
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    reach: Option<Reach>,
}

/// What no certified route of the live version leads to.
#[derive(Debug, Serialize, Deserialize)]
struct Reach {
    not_searched: u64,
    left_out: Vec<LeftOut>,
}

pub fn run(
    gallery: &GalleryArguments,
    client: Option<&ServiceClient>,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    let answer = match client {
        Some(client) => client.get("/gallery/stats")?.read()?,
        None => of_folder(gallery, global)?,
    };
    terminal.result(&answer, |_| text(&answer))?;
    Ok(ExitStatus::Done)
}

fn of_folder(gallery: &GalleryArguments, global: &GlobalArguments) -> anyhow::Result<Answer> {
    let opened = gallery.open_read_only()?;
    let stats = opened.stats()?;
    // Numbers of the gallery need no registry, and without a live version nothing is searched.
    let live = global.open_registry().ok().and_then(|registry| {
        let version = registry.get(LIVE_ALIAS).ok()?;
        Some((registry, version))
    });
    let Some((registry, version)) = live else {
        return Ok(Answer { stats, reach: None });
    };
    let rules = certification(&registry, gallery)?;
    let plan = SearchPlan::of(
        &rules,
        Asking::Version(&version.name),
        version.dim,
        &Stored::of(&opened)?,
        None,
        &|need| match need {
            Need::OldEncoder(old) => registry.get(old).is_ok(),
            Need::MappedIndex { .. } => true,
        },
    );
    let reach = Some(Reach {
        not_searched: plan.not_searched_items(),
        left_out: LeftOut::of(&plan),
    });
    Ok(Answer { stats, reach })
}

fn text(answer: &Answer) -> String {
    let stats = &answer.stats;
    let dim = match (stats.dim, stats.partitions.len()) {
        (Some(dim), _) => format!("dimension {dim}"),
        (None, 0) => "dimension not set".to_owned(),
        (None, _) => "several dimensions".to_owned(),
    };
    let mut text = format!("{} items, {dim}\n", stats.items);
    for (version, items) in &stats.per_version {
        text.push_str(&format!("  {version}  {items}\n"));
    }
    if stats.partitions.len() > 1 {
        stats
            .partitions
            .iter()
            .for_each(|partition| text.push_str(&partition_line(partition)));
    }
    if let Some(reach) = &answer.reach
        && reach.not_searched > 0
    {
        text.push_str(&format!(
            "{} items are not searched by the live version:\n",
            reach.not_searched
        ));
        for left in &reach.left_out {
            text.push_str(&format!(
                "  {}  {}: {}\n",
                left.space, left.items, left.reason
            ));
            if let Some(remedy) = &left.remedy {
                text.push_str(&format!("    to measure it, run `{remedy}`\n"));
            }
        }
    }
    for mapped in &stats.mapped {
        text.push_str(&format!(
            "mapped vectors of {} in memory{}: {} items{}, {} dimensions, {}, {:.1} MB\n",
            mapped.space,
            if mapped.ready { "" } else { ", being built" },
            mapped.items,
            match mapped.refused {
                0 => String::new(),
                refused => format!(" and {refused} that the bridge refuses"),
            },
            mapped.dim,
            search(&mapped.index),
            mapped.memory_bytes as f64 / 1e6
        ));
    }
    let bytes = stats.bytes_per_vector;
    text.push_str(&format!(
        "{}, {:.0} bytes per vector in memory, {:.0} on disk with payloads\n",
        search(&stats.index),
        bytes.memory,
        bytes.disk
    ));
    let disk = stats.disk;
    text.push_str(&format!(
        "{:.1} MB on disk, about {:.1} MB of them reclaimable\n",
        disk.bytes as f64 / 1e6,
        disk.reclaimable_bytes as f64 / 1e6
    ));
    if disk.is_wasteful() {
        text.push_str("`perennial gallery compact` reclaims that space\n");
    }
    text
}

/// How a part is searched, and how far its index is.
fn search(index: &IndexState) -> String {
    let kind = match index.kind {
        IndexKind::Exact => "exact search",
        IndexKind::Int8 => "int8 search",
        IndexKind::Hnsw => "HNSW search",
    };
    match index.state {
        IndexProgress::Ready => kind.to_owned(),
        IndexProgress::Building => format!(
            "{kind} (being built, {} of {} items)",
            index.indexed,
            index.indexed + index.backlog
        ),
    }
}

/// One line about a part of the gallery that has an index of its own.
fn partition_line(partition: &PartitionStats) -> String {
    let versions: Vec<&str> = partition.per_version.keys().map(String::as_str).collect();
    format!(
        "partition of {}: {} items, dimension {}, {}, {:.0} bytes per vector in memory\n",
        versions.join(", "),
        partition.items,
        partition.dim,
        search(&partition.index),
        partition.memory_bytes_per_vector
    )
}
