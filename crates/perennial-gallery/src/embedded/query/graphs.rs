//! One query and several graphs: each is searched with a part of the breadth, and those that the nearest come from with more.
//!
//! A graph that holds a part of the rows holds a part of the nearest, and its own first few are found with less breadth than ten are. With the whole
//! breadth for each, a search of three graphs would take as long as three searches, and find more than a search of one graph does.

use std::sync::Arc;

use super::super::graph::{Graph, Search};
use super::super::ranking::{Ranked, keep_best};
use super::part::{Part, asked};

/// The part of the breadth that every graph is searched with, and the least breadth.
const FIRST_SHARE: usize = 4;
const FIRST: usize = 8;

/// A part that is searched by its graph.
struct Walked<'a> {
    search: Search<'a>,
    breadth: usize,
    /// The breadth of a search of this graph alone.
    whole: usize,
}

impl Walked<'_> {
    /// How many of what was found are at least as similar as that.
    fn among(&self, least: Option<f32>) -> usize {
        let found = self.search.found();
        found.partition_point(|found| Some(found.score()) >= least)
    }

    /// Searches with more breadth, if it is more.
    fn broaden(&mut self, breadth: usize) {
        if breadth > self.breadth {
            self.search.broaden(breadth);
            self.breadth = breadth;
        }
    }
}

/// Candidates of each part: together at least the best `wanted`, fewer only where there are no more; similarities in f32.
///
/// **Shapes.** `query` `[dim]`; the result is `[parts]`.
pub(super) fn candidates(parts: &[&Part<'_>], query: &[f32], wanted: usize) -> Vec<Vec<Ranked>> {
    type Found = Option<(Arc<Graph>, usize)>;
    let graphs: Vec<Found> = parts.iter().map(|part| part.walked(wanted)).collect();
    let passes = parts.iter().zip(&graphs).map(|(part, graph)| {
        let (graph, tail) = graph.as_ref()?;
        part.passes(graph, *tail)
    });
    let passes: Vec<_> = passes.collect();
    let several = graphs.iter().flatten().count() > 1;
    let searches = graphs.iter().zip(&passes).map(|(graph, passes)| {
        let (graph, _) = graph.as_ref()?;
        let whole = graph.breadth(asked(wanted));
        let breadth = match several {
            true => (whole / FIRST_SHARE).max(FIRST).min(whole),
            false => whole,
        };
        let search = graph.begin(query, breadth, passes.as_deref())?;
        Some(Walked {
            search,
            breadth,
            whole,
        })
    });
    let mut searches: Vec<Option<Walked<'_>>> = searches.collect();
    if several {
        broaden(&mut searches, asked(wanted));
    }
    let least = least_of(&searches, asked(wanted));
    let of_part = |((part, walked), graph): ((&&Part<'_>, &Option<Walked<'_>>), &Found)| {
        let (Some(walked), Some((_, tail))) = (walked, graph) else {
            return part.nearest(query, wanted);
        };
        let found = walked.search.found();
        // A graph whose parts are cut off from each other by dead rows may find too few.
        if found.len() < walked.breadth.min(wanted) {
            return part.nearest(query, wanted);
        }
        let numbers = found[..walked.among(least)].iter();
        let numbers = numbers.map(|&found| walked.search.number(found));
        part.rescored(query, wanted, numbers, *tail)
    };
    let searched = parts.iter().zip(&searches).zip(&graphs);
    searched.map(of_part).collect()
}

/// Goes on in the graphs that the best `count` come from: with as much of the whole breadth as of these come from it, and at least with the whole
/// breadth by the square root of the number of such graphs: less finds fewer of the nearest than one graph of all rows does.
fn broaden(searches: &mut [Option<Walked<'_>>], count: usize) {
    let least = least_of(searches, count);
    let with_share = searches.iter().flatten().map(|walked| walked.among(least));
    let sharing = with_share.filter(|&share| share > 0).count();
    for walked in searches.iter_mut().flatten() {
        let share = walked.among(least);
        if share > 0 {
            let even = (walked.whole as f64 / (sharing as f64).sqrt()).ceil() as usize;
            let own = walked.whole * share / count;
            walked.broaden(even.max(own).min(walked.whole));
        }
    }
}

/// The similarity of the last of the best `count` that all searches have found.
fn least_of(searches: &[Option<Walked<'_>>], count: usize) -> Option<f32> {
    let found = searches.iter().flatten();
    let found = found.flat_map(|walked| walked.search.found().iter().copied());
    let mut found: Vec<Ranked> = found.collect();
    keep_best(&mut found, count);
    found.iter().max().map(|last| last.score())
}
