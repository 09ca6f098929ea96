//! Inputs of the evaluation set that the bridge was fitted on: what is measured on them says nothing about other inputs.

use perennial_bridge::{Bridge, FitInputs, Side};
use perennial_core::ItemId;

use crate::evaluation_data::{EvaluationData, Rows};
use crate::route::Route;

/// Inputs of the evaluation set that were fitted on, one sentence for queries and one for gallery items; nothing where there are none.
///
/// `new_side` is the end of the bridge at which the new encoder's space lies.
pub(crate) fn shared_inputs(
    inputs: &FitInputs,
    new_side: Side,
    data: &EvaluationData,
) -> Vec<String> {
    let old_side = match new_side {
        Side::From => Side::To,
        Side::To => Side::From,
    };
    let rows = |side, rows: &Rows| inputs.shared_rows(side, &rows.values, rows.dim);
    let new_gallery = data
        .new_gallery
        .as_ref()
        .map_or(0, |gallery| rows(new_side, gallery));
    let queries = rows(new_side, &data.new_queries).max(rows(old_side, &data.old_queries));
    let items = rows(old_side, &data.old_gallery).max(new_gallery);
    let ids = |ids: &Option<Vec<ItemId>>| ids.as_ref().map_or(0, |ids| inputs.shared_ids(ids));
    [
        ("queries", queries, ids(&data.names.queries)),
        ("gallery items", items, ids(&data.names.items)),
    ]
    .into_iter()
    .filter_map(|(what, by_row, by_id)| match (by_row, by_id) {
        (0, 0) => None,
        (0, by_id) => Some(format!(
            "{by_id} {what} of the evaluation set have the ids of inputs that the bridge was fitted on; fit it on other items, or give other \
             items other ids"
        )),
        (by_row, _) => Some(format!(
            "{by_row} {what} of the evaluation set were used to fit the bridge; fit it on other items"
        )),
    })
    .collect()
}

/// What is to be said of a bridge on a route: inputs that were fitted on, and what cannot be told of them.
pub(crate) struct FitOverlap {
    /// Inputs of the evaluation set that were fitted on, as [`shared_inputs`] says them.
    pub(crate) shared: Vec<String>,
    /// What the bridge's record does not tell.
    pub(crate) unknown: Option<String>,
}

impl FitOverlap {
    pub(crate) fn of(bridge: Option<&Bridge>, route: Route, data: &EvaluationData) -> Self {
        let none = |unknown| Self {
            shared: Vec::new(),
            unknown,
        };
        let Some(bridge) = bridge.filter(|_| route != Route::Own) else {
            return none(None);
        };
        let Some(inputs) = bridge.fit_inputs() else {
            return none(Some(
                "the bridge does not record what it was fitted on, so this cannot tell whether fit and evaluation overlap; fit it again with \
                 this version of Perennial, or make sure of it yourself"
                    .to_owned(),
            ));
        };
        let new_side = match route {
            Route::Mapped => Side::To,
            _ => Side::From,
        };
        Self {
            shared: shared_inputs(inputs, new_side, data),
            unknown: inputs.is_sample().then(|| {
                "the bridge was fitted on more inputs than it records, so a few inputs that fit and evaluation share may go unnoticed"
                    .to_owned()
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation_data::Names;
    use perennial_core::SpaceRef;

    fn rows(values: &[f32], dim: usize) -> Rows {
        Rows {
            values: values.to_vec(),
            dim,
            space: SpaceRef::unnamed(dim),
        }
    }

    #[test]
    fn rows_count_at_both_ends_and_ids_where_rows_differ() {
        let data = EvaluationData {
            old_queries: rows(&[1.0, 2.0], 1),
            old_gallery: rows(&[3.0, 4.0, 5.0], 1),
            new_queries: rows(&[1.0, 1.5, 2.0, 2.5], 2),
            new_gallery: None,
            truths: Vec::new(),
            own: None,
            names: Names {
                queries: Some(vec!["a".into(), "b".into()]),
                items: Some(vec!["c".into(), ItemId::Number(1), "d".into()]),
                ..Names::default()
            },
        };
        let other = FitInputs::of(&[7.0, 7.0], 2, &[8.0], 1);
        assert!(shared_inputs(&other, Side::From, &data).is_empty());
        let by_id = other.with_ids(&["d".into(), ItemId::Number(1)]);
        let said = shared_inputs(&by_id, Side::From, &data);
        assert_eq!(said.len(), 1);
        assert!(
            said[0].starts_with("1 gallery items") && said[0].contains("ids"),
            "{said:?}"
        );
        let by_row = FitInputs::of(&[2.0, 2.5], 2, &[4.0, 5.0, 9.0], 1);
        let said = shared_inputs(&by_row, Side::From, &data);
        assert!(
            said[0].starts_with("1 queries") && said[1].starts_with("2 gallery items"),
            "{said:?}"
        );
        // A bridge from the old space to the new one.
        assert_eq!(
            shared_inputs(&by_row.clone().inverse(), Side::To, &data),
            said
        );
        assert!(shared_inputs(&by_row, Side::To, &data).is_empty());
    }
}
