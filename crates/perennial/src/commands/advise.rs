//! `perennial advise`: which way to handle an encoder upgrade pays on the user's own data?

use std::fmt::Write;

use perennial_bridge::Index;
use perennial_core::FileKind;
use perennial_upgrade::report::advice_page;
use perennial_upgrade::{Advice, AdviceError, Finding, Question, Route, TaskAdvice, Way, WayKind};

use crate::arguments::GlobalArguments;
use crate::certificate_text::painted;
use crate::cost_arguments::CostArguments;
use crate::evaluation_arguments::{Measuring, MeasuringArguments};
use crate::exit_status::{ExitStatus, usage};
use crate::stored_gallery::{GalleryArguments, StoredGallery};
use crate::terminal::Terminal;

/// How advice is recognised.
const ADVICE: FileKind = FileKind {
    name: "advice",
    recognise: |head| String::from_utf8_lossy(head).contains("\"perennial-advice\""),
};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    gallery: GalleryArguments,
    #[command(flatten)]
    asking: AskingArguments,
}

/// All but the stored gallery.
#[derive(Debug, clap::Args)]
pub struct AskingArguments {
    #[command(flatten)]
    measuring: MeasuringArguments,
    /// Items of the real gallery, for the cost [default: those of the stored gallery; of a database, all rows of the table, or points of the collection, that can be sampled]
    #[arg(long, value_name = "N", help_heading = "Cost")]
    items: Option<u64>,
    #[command(flatten)]
    cost: CostArguments,
}

pub fn run(
    arguments: &Arguments,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    advise(&arguments.gallery, &arguments.asking, global, terminal)
}

/// Measures every way on a stored gallery.
pub fn advise(
    gallery: &dyn StoredGallery,
    arguments: &AskingArguments,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    let Measuring {
        demands,
        documents,
        evaluation,
        pairs,
        interrupt,
    } = arguments
        .measuring
        .load(gallery, ADVICE, false, global, terminal)?;
    if pairs.is_none() {
        terminal.say("without --fit-from and --fit-to no bridge can be measured");
    }
    let question = Question {
        data: &evaluation.data,
        fit: pairs.as_ref(),
        demands,
        rates: arguments
            .cost
            .rates(arguments.items.or_else(|| gallery.items()))?,
        sources: evaluation.sources.clone(),
        created: perennial_train::now(),
    };
    let advice = question.answer(|step| {
        terminal.say(step);
        interrupt.check()
    });
    let advice = advice.map_err(|error| match error.downcast_ref() {
        Some(AdviceError::NoTruth | AdviceError::TooFewQueries { .. }) => usage(error.to_string()),
        _ => error,
    })?;
    let use_stdout = documents.use_stdout();
    if let Some(output) = documents.document {
        output.commit(advice.to_json())?;
    }
    if let Some(output) = documents.page
        && let Some(content) = advice_page(&advice, 0, &evaluation.page_context())
    {
        output.commit(content.render())?;
    }
    match use_stdout {
        true => terminal.say(render(&advice, false).trim_end()),
        false => terminal.document(|| Ok(advice.to_json()), |color| render(&advice, color))?,
    }
    Ok(ExitStatus::Done)
}

#[cfg(any(feature = "pgvector", feature = "qdrant"))]
impl AskingArguments {
    /// The seed of all that is drawn.
    pub fn seed(&self) -> u64 {
        self.measuring.demands.seed
    }
}

fn render(advice: &Advice, color: bool) -> String {
    let mut text = String::new();
    for task in &advice.tasks {
        let _ = writeln!(
            text,
            "{} retrieval, {} -> {}: {}\n  {}\n",
            task.task,
            advice.gallery_space,
            advice.query_space,
            task.recommendation.way,
            task.recommendation.reason
        );
        text.push_str(&ways(task, advice.demands.confidence, color));
        if let Some(way) = task
            .ways
            .iter()
            .find(|way| way.finding == Finding::CannotTell)
        {
            let _ = writeln!(text, "  cannot tell: {}", way.reasons.join("; "));
        }
        text.push_str(&curve(task));
        let _ = writeln!(
            text,
            "settings were chosen on {} queries and measured on {} others; bridges were fitted on {} pairs\n",
            task.tuning_queries, task.judging_queries, advice.fit_pairs
        );
        let recommended = task
            .ways
            .iter()
            .find(|way| way.name == task.recommendation.way);
        if let Some(next) = recommended.and_then(|way| next_step(way, advice)) {
            let _ = writeln!(text, "{next}\n");
        }
    }
    text
}

/// What makes a gallery search this way, where a gallery can.
fn next_step(way: &Way, advice: &Advice) -> Option<String> {
    if matches!(way.kind, WayKind::ReembedAll | WayKind::ReembedShare) {
        // Its route is that of the items that are embedded again, and says nothing about those that are stored.
        return None;
    }
    let route = match way.route? {
        Route::Own => "own".to_owned(),
        Route::Bridged => "bridged".to_owned(),
        Route::Dual { weight } => format!("dual --weight {weight}"),
        Route::Mapped => "mapped".to_owned(),
    };
    let mut text = format!(
        "to let galleries and the service search this way: `perennial certify --record --route {route}"
    );
    if let Some(bridge) = &way.bridge {
        let _ = write!(text, " --kind {bridge}");
    }
    text.push_str("` with the same files");
    let spaces = [&advice.gallery_space, &advice.query_space];
    if spaces.iter().any(|space| space.fingerprint.is_none()) {
        text.push_str(
            ", and with --old-space and --new-space, the names of model versions or of spaces that `perennial spaces add NAME --canaries FILE` registered",
        );
    }
    if way.route == Some(Route::Mapped) {
        text.push_str(
            "; a gallery in a folder then keeps the mapped vectors in memory beside the stored ones, and `perennial migrate run --mapped` writes them \
             into a database",
        );
    } else if way.index == Index::Centred {
        text.push_str(
            "; these figures are of a centred index, and galleries compare stored vectors as they are, which the certificate measures",
        );
    }
    Some(text)
}

/// One line per way, the best first.
fn ways(task: &TaskAdvice, confidence: f64, color: bool) -> String {
    let mut text = String::new();
    let deciding = task.task.deciding();
    let names: Vec<String> = task.task.measures()[..deciding]
        .iter()
        .map(ToString::to_string)
        .collect();
    let width = task
        .ways
        .iter()
        .map(|way| way.name.len())
        .max()
        .unwrap_or(0);
    let _ = write!(text, "    {:<width$}", "way");
    for name in &names {
        let _ = write!(
            text,
            "  {name:>8} {:<17}",
            format!("margin {} %", confidence * 100.0)
        );
    }
    text.push_str("   lost  finding\n");
    for way in &task.ways {
        let mark = if way.name == task.recommendation.way {
            "->"
        } else {
            "  "
        };
        let _ = write!(text, "  {mark}{:<width$}", way.name);
        for one in way.measures.iter().filter(|one| one.decides) {
            let interval = one.interval(confidence).map_or_else(String::new, |bounds| {
                format!("[{:+.3}, {:+.3}]", bounds.low, bounds.high)
            });
            let _ = write!(text, "  {:>8.4} {interval:<17}", one.comparison.new);
        }
        let lost = way
            .measures
            .iter()
            .find(|one| one.comparison.mcnemar.is_some())
            .map_or(0.0, |one| one.comparison.negative_flips);
        let finding = match way.kind {
            WayKind::DoNothing => "-".to_owned(),
            _ => painted(way.finding, color),
        };
        let _ = writeln!(text, "  {lost:.3}  {finding}{}", cost(way));
    }
    text
}

fn cost(way: &Way) -> String {
    let mut parts = Vec::new();
    if let Some(seconds) = way.cost.seconds.filter(|&seconds| seconds > 0.0) {
        parts.push(format!("{:.1} h", seconds / 3600.0));
    }
    if let Some(price) = way.cost.price.filter(|&price| price > 0.0) {
        parts.push(format!("price {price:.2}"));
    }
    if way.cost.needs_old_encoder && way.kind != WayKind::DoNothing {
        parts.push("two encoders".to_owned());
    }
    if way.cost.needs_originals {
        parts.push("needs the originals".to_owned());
    }
    match parts.is_empty() {
        true => String::new(),
        false => format!("  ({})", parts.join(", ")),
    }
}

fn curve(task: &TaskAdvice) -> String {
    if task.curve.is_empty() {
        return String::new();
    }
    let mut text = String::from(
        "\n  share embedded again, most retrieved items first; dual queries on the rest",
    );
    if let Some(merge) = &task.curve_merge {
        let _ = write!(text, "; merged by {merge}");
    }
    text.push_str(":\n");
    for point in &task.curve {
        let _ = write!(text, "    {:>4.0} %", 100.0 * point.share);
        for (measure, value) in &point.measures {
            let _ = write!(text, "  {measure} {value:.4}");
        }
        text.push('\n');
    }
    text
}
