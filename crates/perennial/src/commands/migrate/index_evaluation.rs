//! The owner's evaluation set, asked of the database itself: before, and by each way that the index can be searched now.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;
use std::path::PathBuf;

use perennial_connect::QualifiedName;
use perennial_connect::migrate::{
    self, IndexHit, Queries, Ranking, Rankings, RankingsRequest, SearchWay, Standing,
};
use perennial_connect::{Address, Observer};
use perennial_core::{ItemId, SpaceId};
use perennial_formats::{Judgements, Label, read_judgements, read_labels};
use perennial_upgrade::{
    Demands, Finding, Ranked, RankedComparison, Task, compare_ranked, dual_weight,
};
use serde::Serialize;

use super::super::bridge::{find_bridge, weight};
use super::database_arguments::ColumnArguments;
use super::failure::failed;
use crate::certificate_text::painted;
use crate::exit_status::usage;
use crate::vector_argument::{VectorArgument, VectorLoader, Vectors, align};

/// Hits that the measures of a task need.
const DEPTH: u32 = 10;
/// Groups of queries that the text shows; the document has all.
const GROUPS_SHOWN: usize = 20;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Evaluation by the database")]
pub struct IndexEvaluationArguments {
    /// Ask the database the queries of an evaluation set: the old vectors by the old queries, as before, and every way that it can be searched now
    #[arg(long, requires = "old_queries", requires = "new_queries")]
    pub evaluation: bool,
    /// Queries embedded by the old encoder: a file, or VERSION@SET:SPLIT
    #[arg(long, value_name = "FILE", requires = "evaluation")]
    old_queries: Option<VectorArgument>,
    /// The same queries embedded by the new encoder
    #[arg(long, value_name = "FILE", requires = "evaluation")]
    new_queries: Option<VectorArgument>,
    /// Class of each query, where the query files have no labels
    #[arg(long, value_name = "FILE", requires = "evaluation")]
    query_labels: Option<PathBuf>,
    /// Column, or field of the payload, with the class of each row
    #[arg(long, value_name = "COLUMN", requires = "evaluation")]
    label_column: Option<String>,
    /// Relevance judgements: query id, item id, grade; measures item-like retrieval
    #[arg(long, value_name = "FILE", requires = "evaluation")]
    relevance: Option<PathBuf>,
    /// Queries are rows: a query does not find the row of its own id
    #[arg(long, requires = "evaluation")]
    leave_one_out: bool,
    /// Group of each query, one a line, measured apart [default: their classes]
    #[arg(long, value_name = "FILE", requires = "evaluation")]
    query_groups: Option<PathBuf>,
    /// Bridge from the new space to the old one, for bridged and dual queries into the old vectors: its folder, or its name in the registry
    #[arg(long, value_name = "BRIDGE", requires = "evaluation")]
    bridge: Option<String>,
    /// Share of the old query in a dual query, from 0 to 1 [default: the weight that was chosen when the bridge was fitted, else 0.5]
    #[arg(long, value_name = "W", value_parser = weight, requires = "bridge")]
    weight: Option<f64>,
    #[command(flatten)]
    columns: ColumnArguments,
}

/// The index that is asked.
pub struct Asked<'a> {
    pub address: &'a Address,
    pub table: &'a QualifiedName,
    pub name: &'a str,
    pub mapped: Option<&'a perennial_bridge::Bridge>,
    pub k: u32,
    pub demands: Demands,
}

/// What the database's answers say.
#[derive(Debug, Serialize)]
pub struct IndexEvaluation {
    pub queries: u64,
    /// Hits that were looked at.
    pub depth: u32,
    /// Share of the old query in dual queries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// The way by which the index would be searched now, whose finding counts.
    pub now: SearchWay,
    pub finding: Finding,
    pub ways: Vec<WayMeasured>,
}

/// One way against the search before.
#[derive(Debug, Serialize)]
pub struct WayMeasured {
    pub way: SearchWay,
    pub task: Task,
    #[serde(flatten)]
    pub compared: RankedComparison,
}

/// What was read of the evaluation set.
struct QuerySet {
    old: Vectors,
    new: Vectors,
    labels: Option<Vec<Label>>,
    judgements: Option<Judgements>,
    groups: Option<Vec<String>>,
}

impl IndexEvaluationArguments {
    /// Asks the database and measures. The standing is that of the migration, where there is one.
    pub fn measure(
        &self,
        asked: &Asked<'_>,
        loader: &VectorLoader<'_>,
        observer: &mut dyn Observer,
    ) -> anyhow::Result<(IndexEvaluation, Option<Standing>)> {
        let set = self.read(loader)?;
        let bridge = self
            .bridge
            .as_deref()
            .map(|name| find_bridge(name, loader.global))
            .transpose()?;
        let weight = bridge
            .as_ref()
            .map(|bridge| dual_weight(bridge, self.weight));
        let depth = asked.k.max(DEPTH);
        let request = RankingsRequest {
            table: asked.table.clone(),
            key: self.columns.id_column.clone(),
            vector: self.columns.vector_column.clone(),
            name: asked.name.to_owned(),
            label: set.labels.as_ref().and(self.label_column.clone()),
            labels: set.labels.as_deref().unwrap_or_default(),
            k: depth + u32::from(self.leave_one_out),
            old: queries(&set.old),
            new: queries(&set.new),
            to_old: bridge.as_ref().zip(weight),
            mapped: asked.mapped,
        };
        let found = migrate::rankings(asked.address, &request, observer).map_err(failed)?;
        let mut ways = Vec::new();
        for task in set.tasks() {
            let before = self.ranked(task, &set, &found, &found.rankings[0]);
            let there = found.labelled.values().filter(|&&rows| rows > 0);
            let classes = (task == Task::ClassLike).then(|| there.count());
            for ranking in &found.rankings[1..] {
                let after = self.ranked(task, &set, &found, ranking);
                let both = [&before[..], &after[..]];
                let groups = set.groups.as_deref();
                let demands = &asked.demands;
                let depth = depth as usize;
                let compared = compare_ranked(task, both, depth, classes, groups, demands)?;
                ways.push(WayMeasured {
                    way: ranking.way,
                    task,
                    compared,
                });
            }
        }
        let now = now(&found);
        let of_now = ways.iter().filter(|one| one.way == now);
        let worst = of_now.map(|one| one.compared.finding);
        let finding = worst.reduce(Finding::worst).unwrap_or(Finding::CannotTell);
        let evaluation = IndexEvaluation {
            queries: set.old.rows.len() as u64,
            depth,
            weight,
            now,
            finding,
            ways,
        };
        Ok((evaluation, found.standing))
    }

    fn read(&self, loader: &VectorLoader<'_>) -> anyhow::Result<QuerySet> {
        let none: Option<&SpaceId> = None;
        let load = |argument: &Option<VectorArgument>, option| match argument {
            Some(argument) => loader.load(argument, (option, none)),
            None => Err(usage(format!("--evaluation needs {option}"))),
        };
        let mut old = load(&self.old_queries, "--old-queries")?;
        let mut new = load(&self.new_queries, "--new-queries")?;
        let order = align(&old, &new)?;
        new.rows = new.rows.select(&order);
        let of_new = new.labels.take();
        let of_new: Option<Vec<Label>> =
            of_new.map(|labels| order.iter().map(|&row| labels[row].clone()).collect());
        old.read_labels(self.query_labels.as_deref())?;
        let labels = old.labels.take().or(of_new);
        let judgements = self.relevance.as_deref().map(read_judgements);
        let judgements = judgements.transpose()?;
        if labels.is_some() && self.label_column.is_none() && judgements.is_none() {
            return Err(usage(
                "the queries have classes; name the column, or field of the payload, with those of the rows by --label-column, or pass --relevance",
            ));
        }
        if self.label_column.is_some() && labels.is_none() {
            return Err(usage(
                "the queries have no labels; pass --query-labels FILE",
            ));
        }
        if labels.is_none() && judgements.is_none() {
            return Err(usage(
                "what is right for a query? Pass --label-column with labels of the queries, or --relevance",
            ));
        }
        if (judgements.is_some() || self.leave_one_out) && old.ids.is_none() {
            return Err(usage(format!(
                "{}: has no ids, which --relevance and --leave-one-out refer to; use a format with ids, such as JSON lines or npz",
                old.name
            )));
        }
        // Labels alone say nothing where nothing labels the rows.
        let labels = labels.filter(|_| self.label_column.is_some());
        let groups = match &self.query_groups {
            Some(path) => {
                let groups = read_labels(path)?;
                if groups.len() != old.rows.len() {
                    return Err(usage(format!(
                        "{} has {} groups, but {} has {} rows",
                        path.display(),
                        groups.len(),
                        old.name,
                        old.rows.len()
                    )));
                }
                Some(groups)
            }
            None => labels.clone(),
        };
        let groups = groups.map(|groups| groups.iter().map(ToString::to_string).collect());
        Ok(QuerySet {
            old,
            new,
            labels,
            judgements,
            groups,
        })
    }

    /// Which hits are right.
    fn ranked(
        &self,
        task: Task,
        set: &QuerySet,
        found: &Rankings,
        ranking: &Ranking,
    ) -> Vec<Ranked> {
        let ids = set.old.ids.as_deref();
        let answers = ranking.hits.iter().enumerate();
        answers
            .map(|(query, hits)| {
                let id = ids.map(|ids| &ids[query]);
                let own = id.filter(|_| self.leave_one_out);
                let hits = hits.iter().filter(|hit| own != Some(&hit.id));
                match (task, &set.labels, &set.judgements) {
                    (Task::ClassLike, Some(labels), _) => {
                        by_class(&labels[query], hits, &found.labelled, own)
                    }
                    (_, _, Some(judgements)) => by_judgement(id, hits, judgements, own),
                    _ => Ranked::default(),
                }
            })
            .collect()
    }
}

impl QuerySet {
    fn tasks(&self) -> Vec<Task> {
        let class_like = self.labels.as_ref().map(|_| Task::ClassLike);
        let item_like = self.judgements.as_ref().map(|_| Task::ItemLike);
        class_like.into_iter().chain(item_like).collect()
    }
}

fn queries(vectors: &Vectors) -> Queries<'_> {
    Queries {
        vectors: &vectors.rows.values,
        dim: vectors.rows.dim,
    }
}

fn by_class<'a>(
    label: &Label,
    hits: impl Iterator<Item = &'a IndexHit>,
    labelled: &BTreeMap<Label, u64>,
    own: Option<&ItemId>,
) -> Ranked {
    let rows = labelled.get(label).copied().unwrap_or(0);
    Ranked {
        right: hits.map(|hit| hit.label.as_ref() == Some(label)).collect(),
        relevant: rows.saturating_sub(u64::from(own.is_some())),
    }
}

fn by_judgement<'a>(
    query: Option<&ItemId>,
    hits: impl Iterator<Item = &'a IndexHit>,
    judgements: &Judgements,
    own: Option<&ItemId>,
) -> Ranked {
    let judged = query.map(|query| judgements.of(query)).unwrap_or_default();
    let right: HashSet<&ItemId> = judged
        .iter()
        .filter(|(item, grade)| *grade > 0 && own != Some(item))
        .map(|(item, _)| item)
        .collect();
    Ranked {
        right: hits.map(|hit| right.contains(&hit.id)).collect(),
        relevant: right.len() as u64,
    }
}

/// The copies once those of all rows are up to date, both columns until then; without copies the old column by dual queries.
fn now(found: &Rankings) -> SearchWay {
    let there = |way: SearchWay| found.rankings.iter().any(|ranking| ranking.way == way);
    let ways = [SearchWay::Merged, SearchWay::New, SearchWay::Dual];
    ways.into_iter()
        .find(|&way| there(way))
        .unwrap_or(SearchWay::Before)
}

impl IndexEvaluation {
    /// One line for each way and task, and the groups of the way that counts.
    pub fn text(&self, confidence: f64, color: bool) -> String {
        let mut text = format!(
            "{} queries asked of the database, {} hits each; now by way {}\n",
            self.queries,
            self.depth,
            self.now.name()
        );
        for one in &self.ways {
            let mut figures = Vec::new();
            for measured in one.compared.measures.iter().filter(|one| one.decides) {
                let comparison = &measured.comparison;
                let interval = measured
                    .interval(confidence)
                    .map_or_else(String::new, |bounds| {
                        format!(" [{:+.4}, {:+.4}]", bounds.low, bounds.high)
                    });
                figures.push(format!(
                    "{} {:.4} -> {:.4}, margin {:+.4}{interval}",
                    comparison.measure, comparison.old, comparison.new, comparison.margin
                ));
            }
            let _ = writeln!(
                text,
                "  {:<8} {:<10} {}: {}",
                one.way.name(),
                one.task.to_string(),
                painted(one.compared.finding, color),
                figures.join("; ")
            );
            for reason in &one.compared.reasons {
                let _ = writeln!(text, "    {reason}");
            }
            if one.way == self.now {
                text.push_str(&groups(&one.compared));
            }
        }
        text
    }

    /// What is wrong, in one line.
    pub fn problem(&self) -> String {
        format!(
            "way {} is not certified to be no worse than before: {}",
            self.now.name(),
            self.finding
        )
    }
}

/// The first measure that decides, group by group.
fn groups(compared: &RankedComparison) -> String {
    let mut text = String::new();
    for group in compared.groups.iter().take(GROUPS_SHOWN) {
        if let Some(measured) = group.measures.iter().find(|one| one.decides) {
            let comparison = &measured.comparison;
            let _ = writeln!(
                text,
                "    {} ({} queries): {} {:.4} -> {:.4}",
                group.name, group.queries, comparison.measure, comparison.old, comparison.new
            );
        }
    }
    let more = compared.groups.len().saturating_sub(GROUPS_SHOWN);
    if more > 0 {
        let _ = writeln!(text, "    and {more} more groups; --json has them");
    }
    text
}
