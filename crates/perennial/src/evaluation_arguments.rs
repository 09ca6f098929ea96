//! The evaluation set and bridge that `certify` and `advise` take on the command line.

use std::path::{Path, PathBuf};

use anyhow::Context;
use perennial_core::{FileKind, SpaceId};
use perennial_formats::Label;
use perennial_upgrade::report::PageContext;
use perennial_upgrade::{Demands, EvaluationData, FitPairs, Names, Source, Sources, Truth};

use crate::arguments::GlobalArguments;
use crate::demand_arguments::DemandArguments;
use crate::document_arguments::{DocumentArguments, Documents};
use crate::exit_status::usage;
use crate::interrupt::Interrupt;
use crate::pictures::{EvaluationPictures, Ordered};
use crate::stored_gallery::{SpaceOption, StoredGallery};
use crate::terminal::Terminal;
use crate::vector_argument::{VectorArgument, VectorLoader, Vectors, align, file_source};

/// All that `certify` and `advise` share.
#[derive(Debug, clap::Args)]
pub struct MeasuringArguments {
    #[command(flatten)]
    evaluation: EvaluationArguments,
    #[command(flatten)]
    fit: FitArguments,
    #[command(flatten)]
    pub demands: DemandArguments,
    #[command(flatten)]
    documents: DocumentArguments,
}

/// What is measured, what is demanded, and where the result goes.
pub struct Measuring {
    pub demands: Demands,
    pub documents: Documents,
    pub evaluation: Evaluation,
    pub pairs: Option<FitPairs>,
    pub interrupt: Interrupt,
}

impl MeasuringArguments {
    /// Checks the demands and the files to write, and then reads everything, pictures too if the page shows them. A document of another
    /// kind is not replaced.
    pub fn load(
        &self,
        gallery: &dyn StoredGallery,
        kind: FileKind,
        page_shows_pictures: bool,
        global: &GlobalArguments,
        terminal: &Terminal,
    ) -> anyhow::Result<Measuring> {
        let demands = self.demands.demands()?;
        let documents = self.documents.prepare(kind)?;
        let loader = VectorLoader {
            global,
            terminal,
            interrupt: Interrupt::listen()?,
            pictures: page_shows_pictures && documents.page.is_some(),
        };
        let mut evaluation = self.evaluation.load(gallery, &loader, terminal)?;
        let loader = VectorLoader {
            pictures: false,
            ..loader
        };
        let pairs = self.fit.load(&loader, &self.evaluation, &mut evaluation)?;
        Ok(Measuring {
            demands,
            documents,
            evaluation,
            pairs,
            interrupt: loader.interrupt,
        })
    }
}

/// The evaluation set. Row `i` of both query files must be the same query (by id where both have ids), likewise the galleries.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Evaluation set")]
pub struct EvaluationArguments {
    /// Queries embedded by the old encoder: a file, or VERSION@SET:SPLIT
    #[arg(long, value_name = "FILE")]
    pub old_queries: VectorArgument,
    /// The same queries embedded by the new encoder
    #[arg(long, value_name = "FILE")]
    pub new_queries: VectorArgument,
    /// The same gallery embedded by the new encoder: shows what re-embedding everything would give
    #[arg(long, value_name = "FILE")]
    pub new_gallery: Option<VectorArgument>,
    /// Class of each query, where the query files have no labels
    #[arg(long, value_name = "FILE")]
    pub query_labels: Option<PathBuf>,
    /// Ids of the queries, row by row, where the query files have none
    #[arg(long, value_name = "FILE")]
    pub query_ids: Option<PathBuf>,
    /// Ids of the gallery items, row by row, where the gallery files have none
    #[arg(long, value_name = "FILE")]
    pub gallery_ids: Option<PathBuf>,
    /// Relevance judgements: query id, item id, grade (TREC qrels, BEIR tsv, CSV or JSON lines); measures item-like retrieval. Every grade
    /// above 0 counts as right
    #[arg(long, value_name = "FILE")]
    pub relevance: Option<PathBuf>,
    /// Queries are gallery items: a query does not find the item of its own id
    #[arg(long)]
    pub leave_one_out: bool,
    /// Name of the old space, where the files do not state it
    #[arg(long, value_name = "NAME")]
    pub old_space: Option<SpaceId>,
    /// Name of the new space, where the files do not state it
    #[arg(long, value_name = "NAME")]
    pub new_space: Option<SpaceId>,
}

/// Paired embeddings of other inputs, to fit a bridge on.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Bridge")]
pub struct FitArguments {
    /// Inputs outside of the evaluation set, embedded by the new encoder, to fit a bridge on
    #[arg(long, value_name = "FILE", requires = "fit_to")]
    pub fit_from: Option<VectorArgument>,
    /// The same inputs embedded by the old encoder
    #[arg(long, value_name = "FILE", requires = "fit_from")]
    pub fit_to: Option<VectorArgument>,
    /// Use only this many pairs, the first ones
    #[arg(long, value_name = "N", requires = "fit_from")]
    pub fit_pairs: Option<usize>,
}

/// An evaluation set, read and in order.
pub struct Evaluation {
    pub data: EvaluationData,
    pub sources: Sources,
    pictures: EvaluationPictures,
}

impl Evaluation {
    /// What a page says beside the document.
    pub fn page_context(&self) -> PageContext<'_> {
        let words: Vec<String> = std::env::args().collect();
        PageContext {
            command: Some(words.join(" ")),
            program: Some(format!("perennial {}", env!("CARGO_PKG_VERSION"))),
            pictures: Some(&self.pictures),
        }
    }
}

impl EvaluationArguments {
    /// The option that names the space of the old encoder.
    fn old_space(&self) -> SpaceOption<'_> {
        ("--old-space", self.old_space.as_ref())
    }

    /// The option that names the space of the new encoder.
    fn new_space(&self) -> SpaceOption<'_> {
        ("--new-space", self.new_space.as_ref())
    }

    /// Reads everything, and brings queries and galleries into one order.
    pub fn load(
        &self,
        gallery: &dyn StoredGallery,
        loader: &VectorLoader<'_>,
        terminal: &Terminal,
    ) -> anyhow::Result<Evaluation> {
        let (old_space, new_space) = (self.old_space(), self.new_space());
        let judgements = self
            .relevance
            .as_ref()
            .map(|file| perennial_formats::read_judgements(file))
            .transpose()
            .context("--relevance")?;
        let mut old_queries = loader
            .load(&self.old_queries, old_space)
            .context("--old-queries")?;
        let mut old_gallery = gallery.load(loader, old_space, judgements.as_ref())?;
        let mut new_queries = loader
            .load(&self.new_queries, new_space)
            .context("--new-queries")?;
        let mut new_gallery = self
            .new_gallery
            .as_ref()
            .map(|argument| loader.load(argument, new_space))
            .transpose()
            .context("--new-gallery")?;
        give_ids(&self.query_ids, [&mut old_queries, &mut new_queries])?;
        give_ids(
            &self.gallery_ids,
            std::iter::once(&mut old_gallery).chain(&mut new_gallery),
        )?;
        if let Some(new_gallery) = &mut new_gallery {
            gallery.meet(&mut old_gallery, new_gallery, terminal)?;
        }
        check_one_space(&old_queries, &old_gallery)?;
        if let Some(new_gallery) = &new_gallery {
            check_one_space(&new_queries, new_gallery)?;
        }
        let order = align(&old_queries, &new_queries)?;
        let aligned_queries = new_queries.rows.select(&order);
        let gallery_order = new_gallery
            .as_ref()
            .map(|gallery| align(&old_gallery, gallery))
            .transpose()?
            .unwrap_or_default();
        let aligned_gallery = new_gallery
            .as_ref()
            .map(|gallery| gallery.rows.select(&gallery_order));

        let mut truth_sources = Vec::new();
        let mut truths = Vec::new();
        let query_labels = self.labels(
            &old_queries,
            &new_queries,
            &order,
            self.query_labels.as_deref(),
            &mut truth_sources,
        )?;
        let gallery_labels = self.labels(
            &old_gallery,
            &old_gallery,
            &[],
            gallery.labels_file(),
            &mut truth_sources,
        )?;
        let mut classes = Vec::new();
        match (&query_labels, &gallery_labels) {
            (Some(queries), Some(gallery)) => {
                let truth = Truth::of_labels(queries, gallery);
                classes = truth.class_names(queries, gallery);
                truths.push(truth);
            }
            (Some(_), None) if self.query_labels.is_some() => {
                return Err(usage(format!(
                    "the gallery has no labels; pass {}",
                    gallery.labels_option()
                )));
            }
            (None, Some(_)) if gallery.labels_file().is_some() => {
                return Err(usage(
                    "the queries have no labels; pass --query-labels FILE",
                ));
            }
            _ => {}
        }
        if let (Some(file), Some(judgements)) = (&self.relevance, &judgements) {
            let (Some(queries), Some(items)) = (&old_queries.ids, &old_gallery.ids) else {
                let without = if old_queries.ids.is_none() {
                    &old_queries
                } else {
                    &old_gallery
                };
                return Err(usage(format!(
                    "{}: has no ids, which --relevance refers to; pass --query-ids and --gallery-ids, or use a format with ids, such as JSON lines or npz",
                    without.name
                )));
            };
            truth_sources.push(file_source(file, judgements.len())?);
            let (truth, missing) = Truth::of_judgements(judgements, queries, items);
            if missing > 0 {
                terminal.say(format_args!(
                    "{}: {missing} judged items are not in the gallery",
                    file.display()
                ));
            }
            truths.push(truth);
        }
        let sources = Sources {
            old_queries: Some(old_queries.source.clone()),
            old_gallery: Some(old_gallery.source.clone()),
            new_queries: Some(new_queries.source.clone()),
            new_gallery: new_gallery.as_ref().map(|gallery| gallery.source.clone()),
            truth: truth_sources,
            fit: Vec::new(),
        };
        let pictures = EvaluationPictures {
            queries: Ordered::first(
                old_queries.pictures.take(),
                new_queries.pictures.take(),
                order,
            ),
            items: Ordered::first(
                old_gallery.pictures.take(),
                new_gallery.and_then(|gallery| gallery.pictures),
                gallery_order,
            ),
        };
        let data = EvaluationData {
            own: self.own(&old_queries, &old_gallery)?,
            names: Names {
                queries: old_queries.ids,
                items: old_gallery.ids,
                classes,
            },
            old_queries: old_queries.rows,
            old_gallery: old_gallery.rows,
            new_queries: aligned_queries,
            new_gallery: aligned_gallery,
            truths,
        };
        Ok(Evaluation {
            data,
            sources,
            pictures,
        })
    }

    /// Labels of one side: a file of their own, or those of either embeddings file.
    fn labels(
        &self,
        old: &Vectors,
        new: &Vectors,
        order: &[usize],
        file: Option<&Path>,
        sources: &mut Vec<Source>,
    ) -> anyhow::Result<Option<Vec<Label>>> {
        if let Some(file) = file {
            let labels = perennial_formats::read_labels(file)?;
            if labels.len() != old.rows.len() {
                return Err(usage(format!(
                    "{} has {} labels, but {} has {} rows",
                    file.display(),
                    labels.len(),
                    old.name,
                    old.rows.len()
                )));
            }
            sources.push(file_source(file, labels.len())?);
            return Ok(Some(labels));
        }
        if let Some(labels) = &old.labels {
            return Ok(Some(labels.clone()));
        }
        Ok(new
            .labels
            .as_ref()
            .map(|labels| order.iter().map(|&row| labels[row].clone()).collect()))
    }

    /// Each query's own place in the gallery.
    fn own(
        &self,
        queries: &Vectors,
        gallery: &Vectors,
    ) -> anyhow::Result<Option<Vec<Option<u32>>>> {
        if !self.leave_one_out {
            return Ok(None);
        }
        let own = match (&queries.ids, &gallery.ids) {
            (Some(ids), Some(items)) => {
                let places = crate::vector_argument::positions(gallery, items)?;
                let own: Vec<Option<u32>> = ids
                    .iter()
                    .map(|id| places.get(id).map(|&place| place as u32))
                    .collect();
                if own.iter().all(Option::is_none) {
                    return Err(usage(
                        "--leave-one-out: no query has the id of a gallery item, so that none would be left out",
                    ));
                }
                own
            }
            _ if queries.rows.len() == gallery.rows.len() => {
                (0..queries.rows.len() as u32).map(Some).collect()
            }
            _ => {
                return Err(usage(
                    "--leave-one-out needs ids in both files, or as many queries as gallery items in the same order",
                ));
            }
        };
        Ok(Some(own))
    }
}

impl FitArguments {
    /// Reads the pairs, where they were given.
    pub fn load(
        &self,
        loader: &VectorLoader<'_>,
        arguments: &EvaluationArguments,
        evaluation: &mut Evaluation,
    ) -> anyhow::Result<Option<FitPairs>> {
        let (Some(from), Some(to)) = (&self.fit_from, &self.fit_to) else {
            return Ok(None);
        };
        let new = loader.load(from, arguments.new_space())?;
        let old = loader.load(to, arguments.old_space())?;
        let Evaluation { data, sources, .. } = evaluation;
        for (option, pairs, queries) in [
            ("--fit-from", &new, (&data.new_queries, "--new-queries")),
            ("--fit-to", &old, (&data.old_queries, "--old-queries")),
        ] {
            let (queries, encoder) = queries;
            queries.space.accept(&pairs.rows.space).map_err(|problem| {
                usage(format!(
                    "{option} {}: its embeddings are not of the encoder of {encoder}: {problem}; --fit-from takes the new encoder's, --fit-to the old one's",
                    pairs.name
                ))
            })?;
        }
        let order = align(&new, &old)?;
        let count = self.fit_pairs.unwrap_or(order.len());
        if count == 0 || count > order.len() {
            return Err(usage(format!(
                "--fit-pairs {count}: there are {} pairs; use 1 to {}",
                order.len(),
                order.len()
            )));
        }
        sources.fit = vec![new.source.clone(), old.source.clone()];
        let rows: Vec<usize> = (0..count).collect();
        let labels = new.labels.as_ref().map(|labels| {
            match Truth::of_labels(&labels[..count], &labels[..count]) {
                Truth::Classes { queries, .. } => queries,
                Truth::Items(_) => unreachable!("labels become classes"),
            }
        });
        // Ids of both sides are the same where both have some; where one has none, the other's will do.
        let ids = match (&new.ids, &old.ids) {
            (Some(ids), _) => Some(ids[..count].to_vec()),
            (None, ids) => ids
                .as_ref()
                .map(|ids| order[..count].iter().map(|&row| ids[row].clone()).collect()),
        };
        Ok(Some(FitPairs {
            new: new.rows.select(&rows),
            old: old.rows.select(&order[..count]),
            ids,
            labels,
        }))
    }
}

/// Gives ids to embeddings that have none.
fn give_ids<'a>(
    file: &Option<PathBuf>,
    vectors: impl IntoIterator<Item = &'a mut Vectors>,
) -> anyhow::Result<()> {
    let Some(file) = file else {
        return Ok(());
    };
    let ids = perennial_formats::read_ids(file)?;
    for vectors in vectors {
        if vectors.ids.is_some() {
            continue;
        }
        if ids.len() != vectors.rows.len() {
            return Err(usage(format!(
                "{} has {} ids, but {} has {} rows",
                file.display(),
                ids.len(),
                vectors.name,
                vectors.rows.len()
            )));
        }
        vectors.ids = Some(ids.clone());
    }
    Ok(())
}

fn check_one_space(queries: &Vectors, gallery: &Vectors) -> anyhow::Result<()> {
    gallery
        .rows
        .space
        .accept(&queries.rows.space)
        .map_err(|problem| {
            usage(format!(
                "{} and {} must be embeddings of one encoder: {problem}",
                queries.name, gallery.name
            ))
        })
}
