//! What a query costs: the time that the encoders take which embed it.

use std::fmt;
use std::time::Instant;

use crate::fixed_inputs::in_memory;
use crate::loaded_model::LoadedModel;

/// Inputs that are timed, one after the other; their median counts.
const TIMED: usize = 5;

/// The encoders that embed one query.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QueryCost {
    /// The version itself first, then those of its dual routes.
    pub encoders: Vec<EncoderCost>,
}

/// What one encoder takes.
#[derive(Debug, Clone, PartialEq)]
pub struct EncoderCost {
    /// The version.
    pub version: String,
    /// Milliseconds for one input alone, from the picture in memory or the text to the embedding.
    pub milliseconds: f64,
}

impl QueryCost {
    /// Of a version, and of the encoders that its dual routes need beside it; without those that cannot be timed.
    pub fn of<'a>(models: impl IntoIterator<Item = &'a LoadedModel>) -> Self {
        let timed = models.into_iter().filter_map(|model| {
            Some(EncoderCost {
                version: model.name().to_owned(),
                milliseconds: milliseconds(model)?,
            })
        });
        Self {
            encoders: timed.collect(),
        }
    }

    /// All of them, one after the other.
    pub fn milliseconds(&self) -> f64 {
        self.encoders.iter().map(|one| one.milliseconds).sum()
    }
}

impl fmt::Display for QueryCost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each = self.encoders.iter();
        let each: Vec<String> = each
            .map(|one| format!("{:.2} ms by {}", one.milliseconds, one.version))
            .collect();
        let all = self.milliseconds();
        match self.encoders.len() {
            0 => f.write_str("not measured"),
            1 => write!(f, "{} to embed one input alone, measured here", each[0]),
            count => write!(
                f,
                "{all:.2} ms to embed one input alone by {count} encoders ({}), measured here",
                each.join(", ")
            ),
        }
    }
}

/// Milliseconds for one input alone, from the picture in memory or the text to the embedding; blocks for a few forward passes the first time.
/// Nothing where an input has no embedding.
pub(crate) fn milliseconds(model: &LoadedModel) -> Option<f64> {
    model.query_milliseconds(time)
}

fn time(model: &LoadedModel) -> Option<f64> {
    let inputs = in_memory(model);
    let mut times = Vec::with_capacity(TIMED);
    for input in inputs.iter().cycle().take(TIMED) {
        let start = Instant::now();
        let prepared = model.prepare(input.as_input()).ok()?;
        model.encode(&[prepared]).ok()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_or_two_encoders_are_named_with_their_times() {
        let one = |version: &str, milliseconds| EncoderCost {
            version: version.to_owned(),
            milliseconds,
        };
        let cost = |encoders| QueryCost { encoders }.to_string();
        assert_eq!(cost(Vec::new()), "not measured");
        assert_eq!(
            cost(vec![one("v0002", 8.0)]),
            "8.00 ms by v0002 to embed one input alone, measured here"
        );
        assert_eq!(
            cost(vec![one("v0002", 8.0), one("v0001", 4.5)]),
            "12.50 ms to embed one input alone by 2 encoders (8.00 ms by v0002, 4.50 ms by v0001), measured here"
        );
    }
}
