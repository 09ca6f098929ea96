//! Where a report comes from: what its page and its table name beside the measurements.

/// The run behind a report. Everything that is unknown is left out of what is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Provenance {
    /// Name of the run, where the versions come from one.
    pub run: Option<String>,
    /// The training methods of the versions, such as `hoc`.
    pub method: Option<String>,
    /// Seed of the training.
    pub seed: Option<u64>,
    /// When it was measured: RFC 3339 in UTC.
    pub measured: Option<String>,
    /// Positions, counted from 0, of the versions that descend from a replacement rather than from the version before them.
    pub replacements: Vec<usize>,
}

impl Provenance {
    /// Day and minute of the measurement, such as `2026-11-22 21:35 UTC`; another text stays as it is.
    pub fn date(&self) -> Option<String> {
        let text = self.measured.as_deref()?;
        Some(match (text.get(..10), text.get(10..11), text.get(11..16)) {
            (Some(day), Some("T"), Some(time)) => format!("{day} {time} UTC"),
            _ => text.to_owned(),
        })
    }

    /// Names and values of what is known, in the order in which they are shown.
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        [
            ("Run", self.run.clone()),
            ("Method", self.method.clone()),
            ("Seed", self.seed.map(|seed| seed.to_string())),
            ("Measured", self.date()),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_is_named() {
        assert!(Provenance::default().facts().is_empty());
        let known = Provenance {
            seed: Some(3),
            measured: Some("2026-11-22T21:35:10Z".to_owned()),
            ..Provenance::default()
        };
        assert_eq!(
            known.facts(),
            [
                ("Seed", "3".to_owned()),
                ("Measured", "2026-11-22 21:35 UTC".to_owned())
            ]
        );
        let odd = Provenance {
            measured: Some("größer".to_owned()),
            ..Provenance::default()
        };
        assert_eq!(odd.date().unwrap(), "größer");
    }
}
