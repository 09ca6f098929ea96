//! What embedding costs, for `advise` and for plans of migrations.

use perennial_upgrade::Rates;

use crate::exit_status::usage;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Cost")]
pub struct CostArguments {
    /// Items that the new encoder embeds per second [default: none, and no time is estimated]
    #[arg(long, value_name = "N")]
    items_per_second: Option<f64>,
    /// Price of embedding 1,000 items with the new encoder, in your currency [default: none, and no cost is estimated]
    #[arg(long, value_name = "PRICE")]
    price_per_thousand: Option<f64>,
}

impl CostArguments {
    /// The rates, for so many items.
    pub fn rates(&self, items: Option<u64>) -> anyhow::Result<Rates> {
        Ok(Rates {
            items,
            items_per_second: positive("--items-per-second", self.items_per_second)?,
            price_per_thousand: positive("--price-per-thousand", self.price_per_thousand)?,
        })
    }
}

/// A number above 0, where there is one.
pub fn positive(option: &str, value: Option<f64>) -> anyhow::Result<Option<f64>> {
    match value {
        Some(value) if !(value.is_finite() && value > 0.0) => {
            Err(usage(format!("{option} {value}: use a number above 0")))
        }
        value => Ok(value),
    }
}
