//! How a bridge is fitted.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::BridgeError;

/// A way to fit a bridge, with its parameters.
///
/// As text: `identity`, `centring`, `orthogonal`, `ridge:PENALTY`, `whitened:SHRINKAGE,POWER`, `low_rank:RANK,PENALTY`,
/// `lambda_orthogonal:LAMBDA`, `head`. `ridge` alone is `ridge:0.001`, and `whitened` alone is `whitened:0.1,0.5`.
///
/// No kind is the best on every measure of every pair of encoders: choose by retrieval on held-out pairs, never by the residual of the fit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Recipe {
    /// No change: for encoders that were trained to share a space. Nothing is centred. The dimensions must agree.
    Identity,
    /// Each side's mean is removed and nothing else. The dimensions must agree.
    Centring,
    /// The rotation that brings the pairs closest; with different dimensions a map with orthonormal rows or columns.
    Orthogonal,
    /// Least squares with a penalty on the size of the map.
    Ridge {
        /// The penalty per pair, at least 0: `penalty * n` is added to the diagonal of `X^T X`.
        penalty: f64,
    },
    /// Rotation between whitened spaces, between `Orthogonal` and least squares.
    Whitened {
        /// Share of the covariance that is replaced by its mean eigenvalue, from 0 to 1.
        shrinkage: f64,
        /// Power of the singular values by which the directions are weighted, from 0 (a rotation) to 1 (least squares).
        power: f64,
    },
    /// The ridge map, restricted to the directions of the target that it explains best.
    LowRank {
        /// Directions to keep, at least 1.
        rank: usize,
        /// As that of `Ridge`.
        penalty: f64,
    },
    /// Least squares with a penalty on the distance from a rotation.
    LambdaOrthogonal {
        /// Weight of the penalty, at least 0.
        lambda: f64,
    },
    /// A linear layer that was trained on labels, elsewhere ([`Bridge::of_layer`](crate::Bridge::of_layer)). No fit makes it.
    Head,
}

/// The kind of a bridge, without parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// [`Recipe::Identity`].
    Identity,
    /// [`Recipe::Centring`].
    Centring,
    /// [`Recipe::Orthogonal`].
    Orthogonal,
    /// [`Recipe::Ridge`].
    Ridge,
    /// [`Recipe::Whitened`].
    Whitened,
    /// [`Recipe::LowRank`].
    LowRank,
    /// [`Recipe::LambdaOrthogonal`].
    LambdaOrthogonal,
    /// [`Recipe::Head`].
    Head,
    /// Several bridges, one after the other.
    Chain,
}

impl Kind {
    /// Its name, as in a recipe's text.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Identity => "identity",
            Kind::Centring => "centring",
            Kind::Orthogonal => "orthogonal",
            Kind::Ridge => "ridge",
            Kind::Whitened => "whitened",
            Kind::LowRank => "low_rank",
            Kind::LambdaOrthogonal => "lambda_orthogonal",
            Kind::Head => "head",
            Kind::Chain => "chain",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Recipe {
    /// The kind of bridge that it makes.
    pub fn kind(&self) -> Kind {
        match self {
            Recipe::Identity => Kind::Identity,
            Recipe::Centring => Kind::Centring,
            Recipe::Orthogonal => Kind::Orthogonal,
            Recipe::Ridge { .. } => Kind::Ridge,
            Recipe::Whitened { .. } => Kind::Whitened,
            Recipe::LowRank { .. } => Kind::LowRank,
            Recipe::LambdaOrthogonal { .. } => Kind::LambdaOrthogonal,
            Recipe::Head => Kind::Head,
        }
    }

    /// Checks the parameters.
    ///
    /// # Errors
    /// [`BridgeError::Recipe`]: a parameter outside of its range.
    pub fn check(&self) -> Result<(), BridgeError> {
        let at_least_zero = |name: &str, value: f64| {
            if value.is_finite() && value >= 0.0 {
                return Ok(());
            }
            Err(self.error(format!("{name} must be a finite number of at least 0")))
        };
        let share = |name: &str, value: f64| {
            if (0.0..=1.0).contains(&value) {
                return Ok(());
            }
            Err(self.error(format!("{name} must be from 0 to 1")))
        };
        match *self {
            Recipe::Identity | Recipe::Centring | Recipe::Orthogonal | Recipe::Head => Ok(()),
            Recipe::Ridge { penalty } => at_least_zero("the penalty", penalty),
            Recipe::Whitened { shrinkage, power } => {
                share("the shrinkage", shrinkage)?;
                share("the power", power)
            }
            Recipe::LowRank { rank, penalty } => {
                if rank == 0 {
                    return Err(self.error("the rank must be at least 1".to_owned()));
                }
                at_least_zero("the penalty", penalty)
            }
            Recipe::LambdaOrthogonal { lambda } => at_least_zero("lambda", lambda),
        }
    }

    fn error(&self, problem: String) -> BridgeError {
        BridgeError::Recipe {
            recipe: self.to_string(),
            problem,
        }
    }
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind();
        match self {
            Recipe::Identity | Recipe::Centring | Recipe::Orthogonal | Recipe::Head => {
                write!(f, "{kind}")
            }
            Recipe::Ridge { penalty } => write!(f, "{kind}:{penalty}"),
            Recipe::Whitened { shrinkage, power } => write!(f, "{kind}:{shrinkage},{power}"),
            Recipe::LowRank { rank, penalty } => write!(f, "{kind}:{rank},{penalty}"),
            Recipe::LambdaOrthogonal { lambda } => write!(f, "{kind}:{lambda}"),
        }
    }
}

impl FromStr for Recipe {
    type Err = BridgeError;

    fn from_str(text: &str) -> Result<Self, BridgeError> {
        let error = |problem: &str| BridgeError::Recipe {
            recipe: text.chars().take(80).collect(),
            problem: problem.to_owned(),
        };
        let (name, values) = match text.split_once(':') {
            None => (text, Vec::new()),
            Some((name, values)) => (name, values.split(',').collect()),
        };
        let number = |text: &str| {
            text.parse::<f64>()
                .map_err(|_| error("a parameter is not a number"))
        };
        let recipe = match (name, values.as_slice()) {
            ("identity", []) => Recipe::Identity,
            ("centring", []) => Recipe::Centring,
            ("orthogonal", []) => Recipe::Orthogonal,
            ("ridge", []) => Recipe::Ridge { penalty: 1e-3 },
            ("ridge", [penalty]) => Recipe::Ridge {
                penalty: number(penalty)?,
            },
            ("whitened", []) => Recipe::Whitened {
                shrinkage: 0.1,
                power: 0.5,
            },
            ("whitened", [shrinkage, power]) => Recipe::Whitened {
                shrinkage: number(shrinkage)?,
                power: number(power)?,
            },
            ("low_rank", [rank, penalty]) => Recipe::LowRank {
                rank: rank
                    .parse()
                    .map_err(|_| error("the rank is not a whole number"))?,
                penalty: number(penalty)?,
            },
            ("lambda_orthogonal", [lambda]) => Recipe::LambdaOrthogonal {
                lambda: number(lambda)?,
            },
            ("head", []) => Recipe::Head,
            _ => {
                return Err(error(
                    "expected identity, centring, orthogonal, ridge:PENALTY, whitened:SHRINKAGE,POWER, low_rank:RANK,PENALTY or \
                     lambda_orthogonal:LAMBDA",
                ));
            }
        };
        recipe.check()?;
        Ok(recipe)
    }
}

impl TryFrom<String> for Recipe {
    type Error = BridgeError;

    fn try_from(text: String) -> Result<Self, BridgeError> {
        text.parse()
    }
}

impl From<Recipe> for String {
    fn from(recipe: Recipe) -> Self {
        recipe.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_recipe() -> impl Strategy<Value = Recipe> {
        prop_oneof![
            Just(Recipe::Identity),
            Just(Recipe::Centring),
            Just(Recipe::Orthogonal),
            Just(Recipe::Head),
            (0.0..1e9).prop_map(|penalty| Recipe::Ridge { penalty }),
            (0.0..=1.0, 0.0..=1.0)
                .prop_map(|(shrinkage, power)| Recipe::Whitened { shrinkage, power }),
            (1usize.., 0.0..1.0).prop_map(|(rank, penalty)| Recipe::LowRank { rank, penalty }),
            (0.0..1e-6).prop_map(|lambda| Recipe::LambdaOrthogonal { lambda }),
        ]
    }

    proptest! {
        #[test]
        fn a_recipe_is_read_as_it_was_shown(recipe in any_recipe()) {
            prop_assert_eq!(recipe.to_string().parse::<Recipe>().unwrap(), recipe);
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = text.parse::<Recipe>();
        }
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for text in [
            "ridge:-1",
            "ridge:NaN",
            "ridge:inf",
            "ridge:",
            "ridge:x",
            "whitened:2,0",
            "whitened:0.1",
            "whitened:0.1,-1",
            "low_rank:0,0",
            "low_rank:1.5,0",
            "lambda_orthogonal",
            "lambda_orthogonal:-0.1",
            "orthogonal:1",
            "head:1",
            "mlp",
            "",
        ] {
            assert!(text.parse::<Recipe>().is_err(), "{text}");
        }
    }
}
