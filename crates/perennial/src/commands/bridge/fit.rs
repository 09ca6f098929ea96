//! `perennial bridge fit`.

use std::path::PathBuf;

use anyhow::Context;
use clap::ValueEnum;
use perennial_bridge::{
    Bridge, FitInputs, FitRecord, Labelled, Matching, Pairs, Recipe, fit, fit_from_labels,
    fit_uncentred,
};
use perennial_core::{ItemId, SpaceId};
use perennial_formats::Label;
use perennial_upgrade::{Rows, Truth, select};
use serde::Serialize;

use super::keep::keep;
use crate::arguments::GlobalArguments;
use crate::exit_status::{ExitStatus, usage};
use crate::interrupt::Interrupt;
use crate::row_pairs::RowPairs;
use crate::terminal::Terminal;
use crate::vector_argument::{VectorArgument, VectorLoader, Vectors};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Embeddings of the space to map from, usually the new encoder's: a file, or VERSION@SET:SPLIT
    #[arg(long, value_name = "FILE")]
    from: VectorArgument,
    /// Embeddings of the space to map to, usually the old encoder's, of the same inputs
    #[arg(long, value_name = "FILE")]
    to: VectorArgument,
    /// How rows of the two files belong together [default: id if both files have ids, else row]
    #[arg(long = "match", value_enum, value_name = "HOW")]
    matching: Option<MatchArgument>,
    /// Kind of the map: auto, identity, centring, orthogonal, ridge:PENALTY, whitened:SHRINKAGE,POWER, low_rank:RANK,PENALTY or
    /// lambda_orthogonal:LAMBDA; auto measures each kind by retrieval on pairs that are held out from the fit
    #[arg(long, default_value = "auto", value_name = "KIND")]
    kind: KindArgument,
    /// Labels of --from, where the file itself has none
    #[arg(long, value_name = "FILE")]
    labels_from: Option<PathBuf>,
    /// Labels of --to, where the file itself has none
    #[arg(long, value_name = "FILE")]
    labels_to: Option<PathBuf>,
    /// Name of the space of --from, where the file does not state it
    #[arg(long, value_name = "NAME")]
    from_space: Option<SpaceId>,
    /// Name of the space of --to, where the file does not state it
    #[arg(long, value_name = "NAME")]
    to_space: Option<SpaceId>,
    /// Subtract no means, so that the bridge can be folded into a model version's embedding layer; somewhat worse
    #[arg(long)]
    uncentred: bool,
    /// Use only this many pairs, drawn at random
    #[arg(long, value_name = "N")]
    pairs: Option<usize>,
    /// Seed of the draw of pairs, and of the held-out pairs of --kind auto
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder to write the bridge to [default: a new number in the registry's folder `bridges`]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// How rows belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum MatchArgument {
    /// Row by row
    Row,
    /// By id; ids that are in one file only are left out and counted
    Id,
    /// By the means of the classes of different items: needs labels on both sides, and no common items
    Label,
}

#[derive(Clone, Debug, PartialEq)]
enum KindArgument {
    Auto,
    One(Recipe),
}

impl std::str::FromStr for KindArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        text.parse()
            .map(Self::One)
            .map_err(|error: perennial_bridge::BridgeError| error.to_string())
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    bridge: String,
    from: &'a perennial_core::SpaceRef,
    to: &'a perennial_core::SpaceRef,
    kind: String,
    pairs: u64,
    /// Of a rotation: in how many dimensions the pairs determine it.
    #[serde(skip_serializing_if = "Option::is_none")]
    rank: Option<usize>,
    matched_by: Matching,
    unmatched: [usize; 2],
    sha256: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    selection: Option<SelectionAnswer>,
    warnings: &'a [String],
}

#[derive(Serialize)]
struct SelectionAnswer {
    held_out_pairs: usize,
    labelled: bool,
    dual_weight: f64,
    beats_doing_nothing: Option<bool>,
    tried: Vec<perennial_upgrade::Tried>,
}

/// Embeddings of the same inputs, row by row.
struct Paired {
    from: Rows,
    to: Rows,
    labels: Option<Vec<u32>>,
    /// Of either side.
    ids: Vec<ItemId>,
    unmatched: [usize; 2],
    matched_by: Matching,
}

pub fn run(
    arguments: &Arguments,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    if arguments.uncentred
        && (arguments.kind == KindArgument::Auto
            || arguments.matching == Some(MatchArgument::Label))
    {
        return Err(usage(
            "--uncentred needs a kind, such as --kind orthogonal, and pairs of rows",
        ));
    }
    if let Some(folder) = &arguments.out {
        Bridge::check_target(folder)?;
    }
    let loader = VectorLoader {
        global,
        terminal,
        interrupt: Interrupt::listen()?,
        pictures: false,
    };
    let mut from = loader
        .load(
            &arguments.from,
            ("--from-space", arguments.from_space.as_ref()),
        )
        .context("--from")?;
    let mut to = loader
        .load(&arguments.to, ("--to-space", arguments.to_space.as_ref()))
        .context("--to")?;
    from.read_labels(arguments.labels_from.as_deref())?;
    to.read_labels(arguments.labels_to.as_deref())?;

    let (bridge, inputs, selection, unmatched, matched_by) =
        if arguments.matching == Some(MatchArgument::Label) {
            let bridge = arguments.fit_labels(&from, &to)?;
            let ids = from.ids.iter().chain(&to.ids).flatten();
            let inputs = inputs(&from.rows, &to.rows, ids);
            (bridge, inputs, None, [0, 0], Matching::Label)
        } else {
            let paired = arguments.paired(&from, &to)?;
            let (bridge, selection) = arguments.fit_pairs(&paired, terminal)?;
            let inputs = inputs(&paired.from, &paired.to, &paired.ids);
            let Paired {
                unmatched,
                matched_by,
                ..
            } = paired;
            (bridge, inputs, selection, unmatched, matched_by)
        };
    let record = FitRecord {
        matched: matched_by,
        from_sha256: Some(from.source.sha256.clone()),
        to_sha256: Some(to.source.sha256.clone()),
        created: Some(perennial_train::now()),
        ..bridge.fit_record().clone()
    };
    let bridge = bridge.with_fit_record(record)?.with_fit_inputs(inputs);
    let answer = Answer {
        bridge: keep(&bridge, arguments.out.as_deref(), global)?,
        from: bridge.from(),
        to: bridge.to(),
        kind: bridge.describe(),
        pairs: bridge.fit_record().pairs as u64,
        rank: bridge.fit_record().rank,
        matched_by,
        unmatched,
        sha256: bridge.sha256(),
        selection,
        warnings: &bridge.fit_record().warnings,
    };
    terminal.result(&answer, |_| render(&answer))?;
    Ok(ExitStatus::Done)
}

impl Arguments {
    fn fit_pairs(
        &self,
        paired: &Paired,
        terminal: &Terminal,
    ) -> anyhow::Result<(Bridge, Option<SelectionAnswer>)> {
        let recipe = match &self.kind {
            KindArgument::One(recipe) => recipe,
            KindArgument::Auto => {
                terminal.say("measuring each kind of bridge on held-out pairs");
                let found = select(
                    &paired.from,
                    &paired.to,
                    paired.labels.as_deref(),
                    self.seed,
                )?;
                let answer = SelectionAnswer {
                    held_out_pairs: found.held_out,
                    labelled: found.labelled,
                    dual_weight: found.weight,
                    beats_doing_nothing: found.beats_doing_nothing,
                    tried: found.tried,
                };
                return Ok((found.bridge, Some(answer)));
            }
        };
        let pairs = Pairs::new(
            &paired.from.values,
            paired.from.dim,
            &paired.to.values,
            paired.to.dim,
        )?;
        let spaces = (paired.from.space.clone(), paired.to.space.clone());
        let fit = if self.uncentred { fit_uncentred } else { fit };
        Ok((fit(&pairs, recipe, spaces.0, spaces.1)?, None))
    }

    /// Fits from the means of classes.
    fn fit_labels(&self, from: &Vectors, to: &Vectors) -> anyhow::Result<Bridge> {
        let recipe = match &self.kind {
            KindArgument::Auto => &Recipe::Orthogonal,
            KindArgument::One(recipe) => recipe,
        };
        let labels = |vectors: &Vectors, option: &str| match &vectors.labels {
            Some(labels) => Ok(labels.clone()),
            None => Err(usage(format!(
                "{}: has no labels, which --match label needs; pass {option} FILE",
                vectors.name
            ))),
        };
        let (from_labels, to_labels) = (labels(from, "--labels-from")?, labels(to, "--labels-to")?);
        let Truth::Classes {
            queries: from_classes,
            gallery: to_classes,
        } = Truth::of_labels(&from_labels, &to_labels)
        else {
            unreachable!("labels become classes");
        };
        let side = |vectors: &'_ Vectors| (vectors.rows.dim, vectors.rows.space.clone());
        let ((from_dim, from_space), (to_dim, to_space)) = (side(from), side(to));
        Ok(fit_from_labels(
            &Labelled {
                rows: &from.rows.values,
                dim: from_dim,
                labels: &from_classes,
            },
            &Labelled {
                rows: &to.rows.values,
                dim: to_dim,
                labels: &to_classes,
            },
            recipe,
            from_space,
            to_space,
        )?)
    }

    /// Rows of both files that are the same input.
    fn paired(&self, from: &Vectors, to: &Vectors) -> anyhow::Result<Paired> {
        let by_id = match self.matching {
            Some(MatchArgument::Id) => Some(true),
            Some(_) => Some(false),
            None => None,
        };
        let RowPairs { rows, by_id } = RowPairs::find(from, to, by_id)?;
        let unmatched = [from.rows.len() - rows.len(), to.rows.len() - rows.len()];
        let chosen = self.draw(rows)?;
        let (from_rows, to_rows): (Vec<usize>, Vec<usize>) =
            chosen.iter().map(|&[from, to]| (from, to)).unzip();
        let labels = from.labels.as_ref().or(to.labels.as_ref()).map(|labels| {
            let rows = if from.labels.is_some() {
                &from_rows
            } else {
                &to_rows
            };
            let chosen: Vec<Label> = rows.iter().map(|&row| labels[row].clone()).collect();
            match Truth::of_labels(&chosen, &chosen) {
                Truth::Classes { queries, .. } => queries,
                Truth::Items(_) => unreachable!("labels become classes"),
            }
        });
        Ok(Paired {
            from: from.rows.select(&from_rows),
            to: to.rows.select(&to_rows),
            labels,
            ids: [(from, &from_rows), (to, &to_rows)]
                .into_iter()
                .filter_map(|(side, rows)| Some((side.ids.as_ref()?, rows)))
                .flat_map(|(ids, rows)| rows.iter().map(|&row| ids[row].clone()))
                .collect(),
            unmatched,
            matched_by: if by_id { Matching::Id } else { Matching::Row },
        })
    }

    fn draw(&self, mut rows: Vec<[usize; 2]>) -> anyhow::Result<Vec<[usize; 2]>> {
        use rand::SeedableRng;
        use rand::seq::SliceRandom;
        let Some(wanted) = self.pairs else {
            return Ok(rows);
        };
        if wanted == 0 || wanted > rows.len() {
            return Err(usage(format!(
                "--pairs {wanted}: there are {} pairs; use 1 to {}",
                rows.len(),
                rows.len()
            )));
        }
        rows.shuffle(&mut rand_chacha::ChaCha8Rng::seed_from_u64(self.seed));
        rows.truncate(wanted);
        rows.sort_unstable();
        Ok(rows)
    }
}

/// What identifies the inputs.
fn inputs<'a>(from: &Rows, to: &Rows, ids: impl IntoIterator<Item = &'a ItemId>) -> FitInputs {
    FitInputs::of(&from.values, from.dim, &to.values, to.dim).with_ids(ids)
}

fn render(answer: &Answer<'_>) -> String {
    let mut text = format!(
        "{}: {} from {} to {}, fitted on {} pairs\n",
        answer.bridge, answer.kind, answer.from, answer.to, answer.pairs
    );
    if let Some(rank) = answer.rank {
        text.push_str(&format!(
            "rank {rank}: the pairs determine the rotation in {rank} of {} dimensions\n",
            answer.from.dim.min(answer.to.dim)
        ));
    }
    if answer.unmatched != [0, 0] {
        text.push_str(&format!(
            "left out, since only one file has them: {} of --from, {} of --to\n",
            answer.unmatched[0], answer.unmatched[1]
        ));
    }
    if let Some(selection) = &answer.selection {
        text.push_str(&format!(
            "\nretrieval on {} held-out pairs{}:\n",
            selection.held_out_pairs,
            if selection.labelled {
                ", by class"
            } else {
                ", each looking for its own embedding"
            }
        ));
        for tried in &selection.tried {
            text.push_str(&format!("  {:<28}", tried.name));
            for (measure, value) in &tried.measures {
                text.push_str(&format!("  {measure} {value:.3}"));
            }
            text.push('\n');
        }
        text.push('\n');
        text.push_str(&match selection.beats_doing_nothing {
            Some(true) => format!(
                "weight of the old query in dual queries: {} (chosen on the held-out pairs)\n",
                selection.dual_weight
            ),
            Some(false) => {
                "nothing that was tried is better than the old encoder alone; measure with `perennial advise` before upgrading\n"
                    .to_owned()
            }
            None => "without labels, only likeness to the old space was measured; certify the bridge with labels or relevance judgements\n"
                .to_owned(),
        });
    }
    for warning in answer.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    text
}
