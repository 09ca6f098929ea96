//! One query and several partitions with graphs: the graphs say which rows are near, as one; what they cannot say is found by comparing all rows.

use std::sync::Arc;

use super::super::graph::{Graph, search_together};
use super::super::ranking::Ranked;
use super::part::{Part, asked};

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
    let walked = graphs.iter().zip(&passes).map(|(graph, passes)| {
        let (graph, _) = graph.as_ref()?;
        Some((&**graph, passes.as_deref()))
    });
    let walked: Vec<_> = walked.collect();
    let found = search_together(&walked, query, asked(wanted));
    let of_part =
        |((part, numbers), graph): ((&&Part<'_>, Option<Vec<u64>>), &Found)| match (numbers, graph)
        {
            (Some(numbers), Some((_, tail))) => {
                part.rescored(query, wanted, numbers.into_iter(), *tail)
            }
            _ => part.nearest(query, wanted),
        };
    parts.iter().zip(found).zip(&graphs).map(of_part).collect()
}
