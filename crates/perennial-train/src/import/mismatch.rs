//! How a set of tensors differs from what a network needs.

use std::collections::BTreeMap;
use std::fmt;

/// Names and shapes of a network's tensors.
pub type Shapes = BTreeMap<String, Vec<usize>>;

/// Names shown of each kind of difference; the rest are counted.
const SHOWN: usize = 3;

/// Tensors that are missing, not expected, or of another shape. At least one of the lists holds something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mismatch {
    /// Tensors that the network needs and the weights lack.
    pub missing: Vec<String>,
    /// Tensors that the network does not have.
    pub unexpected: Vec<String>,
    /// Tensors of another shape than the network's.
    pub misshapen: Vec<Misshapen>,
    /// How many tensors the network needs.
    pub needed: usize,
}

/// A tensor of the wrong shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misshapen {
    /// Its name.
    pub name: String,
    /// The network's shape.
    pub expected: Vec<usize>,
    /// The shape found.
    pub found: Vec<usize>,
}

impl Mismatch {
    /// Compares; `None` where all fits.
    pub fn between<'a>(
        expected: &Shapes,
        found: impl IntoIterator<Item = (&'a String, &'a [usize])>,
    ) -> Option<Self> {
        let mut missing = expected.clone();
        let mut mismatch = Self {
            needed: expected.len(),
            ..Self::default()
        };
        for (name, shape) in found {
            match missing.remove(name) {
                None => mismatch.unexpected.push(name.clone()),
                Some(expected) if expected != shape => mismatch.misshapen.push(Misshapen {
                    name: name.clone(),
                    expected,
                    found: shape.to_vec(),
                }),
                Some(_) => {}
            }
        }
        mismatch.missing = missing.into_keys().collect();
        let fits = mismatch.missing.is_empty()
            && mismatch.unexpected.is_empty()
            && mismatch.misshapen.is_empty();
        (!fits).then_some(mismatch)
    }

    /// The same with the names that the file has for what it holds.
    pub(super) fn with_names_of_the_file(mut self, name: impl Fn(&str) -> String) -> Self {
        for unexpected in &mut self.unexpected {
            *unexpected = name(unexpected);
        }
        for misshapen in &mut self.misshapen {
            misshapen.name = name(&misshapen.name);
        }
        self
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if !self.missing.is_empty() {
            let (count, needed) = (self.missing.len(), self.needed);
            let names = list(&self.missing);
            parts.push(format!("{count} of its {needed} tensors missing ({names})"));
        }
        if !self.unexpected.is_empty() {
            let count = self.unexpected.len();
            let names = list(&self.unexpected);
            parts.push(format!("{count} not expected ({names})"));
        }
        if !self.misshapen.is_empty() {
            let count = self.misshapen.len();
            let texts: Vec<String> = self.misshapen.iter().map(Misshapen::to_string).collect();
            parts.push(format!("{count} of another shape ({})", list(&texts)));
        }
        f.write_str(&parts.join(", "))
    }
}

impl fmt::Display for Misshapen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is {:?} and should be {:?}",
            self.name, self.found, self.expected
        )
    }
}

/// The first few of a list, and how many more there are.
pub(super) fn list(names: &[String]) -> String {
    let shown = names[..names.len().min(SHOWN)].join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_difference_is_counted_and_the_first_few_are_named() {
        let names = |names: &[&str], shape: &[usize]| -> Shapes {
            names
                .iter()
                .map(|name| ((*name).to_owned(), shape.to_vec()))
                .collect()
        };
        let compare = |expected: &Shapes, found: &Shapes| {
            let found = found.iter().map(|(name, shape)| (name, shape.as_slice()));
            Mismatch::between(expected, found)
        };
        let expected = names(&["a", "b", "c", "d", "e", "f"], &[2, 3]);
        assert_eq!(compare(&expected, &expected), None);
        let mut found = names(&["f"], &[3, 2]);
        found.extend(names(&["x"], &[1]));
        assert_eq!(
            compare(&expected, &found).unwrap().to_string(),
            "5 of its 6 tensors missing (a, b, c and 2 more), 1 not expected (x), \
             1 of another shape (f is [3, 2] and should be [2, 3])"
        );
    }
}
