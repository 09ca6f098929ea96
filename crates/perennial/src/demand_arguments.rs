//! What `certify` and `advise` demand of a way, and how they measure it.

use perennial_eval::Bootstrap;
use perennial_upgrade::Demands;

use crate::exit_status::usage;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Demands")]
pub struct DemandArguments {
    /// The smallest margin over the old self-test, a difference of fractions
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    min_margin: f64,
    /// The largest share of queries that may be right before and wrong after [default: any]
    #[arg(long, value_name = "FRACTION")]
    max_negative_flips: Option<f64>,
    /// Error probability of the intervals: 0.1, 0.05 or 0.01
    #[arg(long, default_value_t = 0.05)]
    alpha: f64,
    /// Bootstrap resamples of each interval, at most 1000000; certificates that are recorded have at least the default
    #[arg(long, default_value_t = Bootstrap::DEFAULT_RESAMPLES)]
    resamples: usize,
    /// Seed of all that is drawn: resamples, held-out pairs, and the halves of the queries that advice chooses and judges on
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

impl DemandArguments {
    /// The demands, once they are known to make sense.
    pub fn demands(&self) -> anyhow::Result<Demands> {
        let bootstrap = Bootstrap::limited(self.resamples, self.seed)
            .map_err(|problem| usage(format!("--{problem}")))?;
        Demands::checked(
            self.min_margin,
            self.max_negative_flips,
            self.alpha,
            bootstrap,
        )
        .map_err(|problem| usage(format!("--{problem}")))
    }
}
