//! When a backfill has done enough.

use serde::{Deserialize, Serialize};

/// Ends a backfill before everything is embedded again; the first condition that is met counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StopRule {
    /// This share of the gallery's items is of the live version; a fraction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// So many items were embedded again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub items: Option<u64>,
    /// It worked for so many seconds; pauses do not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// The expected quality is at least this, in the measure of the certificates; a fraction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality: Option<f64>,
}

/// How far a backfill is.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Progress {
    /// Items in the gallery.
    pub items: u64,
    /// Those of the live version.
    pub live_items: u64,
    /// Items that this backfill embedded again.
    pub done: u64,
    /// Seconds that it worked.
    pub seconds: f64,
    /// The expected quality, where the certificates tell.
    pub quality: Option<f64>,
}

impl Progress {
    /// The share of the gallery that is of the live version, a fraction; 1 for an empty gallery.
    pub fn share(&self) -> f64 {
        match self.items {
            0 => 1.0,
            items => self.live_items as f64 / items as f64,
        }
    }
}

impl StopRule {
    /// Says whether the values can be meant.
    ///
    /// # Errors
    /// What is wrong, with the key.
    pub fn check(&self) -> Result<(), String> {
        for (key, value) in [("share", self.share), ("quality", self.quality)] {
            if let Some(value) = value.filter(|value| !(*value > 0.0 && *value <= 1.0)) {
                return Err(format!(
                    "stop.{key}: must be a fraction above 0 and at most 1, got {value}"
                ));
            }
        }
        if let Some(seconds) = self
            .seconds
            .filter(|seconds| !(seconds.is_finite() && *seconds > 0.0))
        {
            return Err(format!("stop.seconds: must be above 0, got {seconds}"));
        }
        match self.items {
            Some(0) => Err("stop.items: must be at least 1, got 0".to_owned()),
            _ => Ok(()),
        }
    }

    /// Which condition is met, in words.
    pub fn met(&self, progress: &Progress) -> Option<String> {
        if let Some(share) = self.share.filter(|share| progress.share() >= *share) {
            return Some(format!("the share {share} is embedded by the live version"));
        }
        if let Some(items) = self.items.filter(|items| progress.done >= *items) {
            return Some(format!("{items} items were embedded again"));
        }
        if let Some(seconds) = self.seconds.filter(|seconds| progress.seconds >= *seconds) {
            return Some(format!("it worked for {seconds} seconds"));
        }
        match (self.quality, progress.quality) {
            (Some(target), Some(quality)) if quality >= target => Some(format!(
                "the expected quality {quality:.4} reaches {target}"
            )),
            _ => None,
        }
    }

    /// How many more items may be embedded again; `None` for no limit by number.
    pub fn items_left(&self, progress: &Progress) -> Option<u64> {
        let by_items = self.items.map(|items| items.saturating_sub(progress.done));
        let by_share = self.share.map(|share| {
            let wanted = (share * progress.items as f64).ceil() as u64;
            wanted.saturating_sub(progress.live_items)
        });
        by_items.into_iter().chain(by_share).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF: Progress = Progress {
        items: 10,
        live_items: 5,
        done: 3,
        seconds: 9.0,
        quality: Some(0.7),
    };

    #[test]
    fn the_first_condition_that_is_met_stops() {
        let none = StopRule::default();
        assert_eq!(none.met(&HALF), None);
        assert_eq!(none.items_left(&HALF), None);
        for (rule, stops) in [
            (r#"{"share": 0.5}"#, true),
            (r#"{"share": 0.51}"#, false),
            (r#"{"items": 3}"#, true),
            (r#"{"items": 4}"#, false),
            (r#"{"seconds": 9}"#, true),
            (r#"{"seconds": 9.5}"#, false),
            (r#"{"quality": 0.7}"#, true),
            (r#"{"quality": 0.71}"#, false),
            (r#"{"quality": 0.71, "items": 2}"#, true),
        ] {
            let rule: StopRule = serde_json::from_str(rule).unwrap();
            rule.check().unwrap();
            assert_eq!(rule.met(&HALF).is_some(), stops, "{rule:?}");
        }
        let unknown = Progress {
            quality: None,
            ..HALF
        };
        let rule: StopRule = serde_json::from_str(r#"{"quality": 0.1}"#).unwrap();
        assert_eq!(rule.met(&unknown), None);
    }

    #[test]
    fn a_batch_does_not_go_beyond_the_rule() {
        let rule = StopRule {
            share: Some(0.75),
            items: Some(9),
            ..StopRule::default()
        };
        assert_eq!(rule.items_left(&HALF), Some(3));
        assert_eq!(Progress::default().share(), 1.0);
    }

    #[test]
    fn values_that_cannot_be_meant_are_named() {
        for (rule, key) in [
            (r#"{"share": 0}"#, "share"),
            (r#"{"share": 1.5}"#, "share"),
            (r#"{"items": 0}"#, "items"),
            (r#"{"seconds": -1}"#, "seconds"),
            (r#"{"quality": 2}"#, "quality"),
        ] {
            let rule: StopRule = serde_json::from_str(rule).unwrap();
            assert!(rule.check().unwrap_err().contains(key));
        }
        assert!(serde_json::from_str::<StopRule>(r#"{"shares": 1}"#).is_err());
    }
}
