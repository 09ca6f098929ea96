//! Filters as conditions in SQL, exactly as [`Filter`] states them.

use perennial_gallery::Filter;
use perennial_gallery::id_key::id_key;
use tokio_postgres::types::ToSql;

use super::spaces::Spaces;
use crate::pairs::pairs;

/// The conditions of a statement over `perennial_items`, and the values that they refer to.
#[derive(Default)]
pub(super) struct Conditions {
    sql: Vec<String>,
    values: Vec<Box<dyn ToSql + Sync>>,
    /// Parameters of the statement that come before the values.
    before: usize,
}

impl Conditions {
    /// None yet; the statement has `before` parameters of its own.
    pub(super) fn after(before: usize) -> Self {
        Self {
            before,
            ..Self::default()
        }
    }

    /// Adds a condition, with `{}` where the value stands.
    pub(super) fn add(&mut self, sql: &str, value: impl ToSql + Sync + 'static) {
        self.values.push(Box::new(value));
        let parameter = format!("${}", self.before + self.values.len());
        self.sql.push(sql.replace("{}", &parameter));
    }

    /// Adds those of a filter.
    pub(super) fn filter(&mut self, filter: &Filter, spaces: &Spaces) {
        if filter.matches_nothing() {
            self.sql.push("false".to_owned());
            return;
        }
        if let Some(names) = &filter.model_versions {
            let known = names.iter().filter_map(|name| spaces.get(name));
            let numbers: Vec<i32> = known.map(|known| known.number).collect();
            self.add("space = ANY({})", numbers);
        }
        if let Some(labels) = &filter.labels {
            if let Some(any_of) = &labels.any_of {
                let labels: Vec<i64> = any_of.iter().map(|&label| label.into()).collect();
                self.add("label = ANY({})", labels);
            }
            if let Some(from) = labels.from {
                self.add("label >= {}", i64::from(from));
            }
            if let Some(to) = labels.to {
                self.add("label <= {}", i64::from(to));
            }
        }
        if let Some(payload) = &filter.payload {
            self.add("pairs @> {}::text::uuid[]", pairs(payload));
        }
        if let Some(ids) = &filter.ids {
            let keys: Vec<Vec<u8>> = ids.iter().map(id_key).collect();
            self.add("key = ANY({})", keys);
        }
    }

    /// `WHERE` and all of them.
    pub(super) fn sql(&self) -> String {
        match self.sql.is_empty() {
            true => String::new(),
            false => format!(" WHERE {}", self.sql.join(" AND ")),
        }
    }

    /// The parameters of a statement: its own, and those of the conditions.
    pub(super) fn parameters<'a>(
        &'a self,
        own: &[&'a (dyn ToSql + Sync)],
    ) -> Vec<&'a (dyn ToSql + Sync)> {
        debug_assert_eq!(own.len(), self.before);
        let values = self.values.iter().map(|value| &**value);
        own.iter().copied().chain(values).collect()
    }
}

#[cfg(test)]
mod tests {
    use perennial_gallery::LabelFilter;

    use super::*;

    #[test]
    fn conditions_hold_parameters_and_no_values() {
        let filter = Filter {
            model_versions: Some(vec!["'; DROP TABLE".to_owned()]),
            labels: Some(LabelFilter {
                any_of: Some(vec![1]),
                from: Some(1),
                to: Some(2),
            }),
            payload: serde_json::json!({"a": "'"}).as_object().cloned(),
            ids: Some(vec!["'".into()]),
            everything: false,
        };
        let mut conditions = Conditions::after(2);
        conditions.filter(&filter, &Spaces::default());
        assert_eq!(
            conditions.sql(),
            " WHERE space = ANY($3) AND label = ANY($4) AND label >= $5 AND label <= $6 AND pairs @> $7::text::uuid[] AND key = ANY($8)"
        );
        assert_eq!(conditions.parameters(&[&1i64, &2i64]).len(), 8);
        assert_eq!(Conditions::default().sql(), "");
        let nothing = Filter {
            ids: Some(Vec::new()),
            ..filter
        };
        let mut conditions = Conditions::default();
        conditions.filter(&nothing, &Spaces::default());
        assert_eq!(conditions.sql(), " WHERE false");
    }
}
