//! The options that name a backbone and how it begins, with the names and help of the table of backbones.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use perennial_train::network::{BACKBONES, BackboneKind, Stem};

/// Parses the name of a backbone.
pub fn backbone() -> impl TypedValueParser<Value = BackboneKind> {
    let names = BACKBONES
        .iter()
        .map(|entry| PossibleValue::new(entry.name).help(entry.title));
    PossibleValuesParser::new(names).try_map(|name| name.parse())
}

/// Parses the name of a stem.
pub fn stem() -> impl TypedValueParser<Value = Stem> {
    let names = Stem::ALL.map(|stem| PossibleValue::new(stem.name()).help(stem.about()));
    PossibleValuesParser::new(names).try_map(|name| name.parse())
}
