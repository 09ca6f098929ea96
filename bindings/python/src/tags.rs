//! Labels and ids, which are numbers or texts in Python as well.

use perennial_core::ItemId;
use perennial_formats::Label;
use pyo3::prelude::*;

use crate::fail::Failure;

/// A label as it is passed.
#[derive(FromPyObject)]
pub enum LabelArgument {
    /// An integer of 64 bits.
    Number(i64),
    /// A text.
    Text(String),
}

/// An id as it is passed.
#[derive(FromPyObject)]
pub enum IdArgument {
    /// An integer of 64 bits without a sign.
    Number(u64),
    /// A text.
    Text(String),
}

/// Labels that can be stored, as files have them.
pub fn labels(arguments: Vec<LabelArgument>) -> Result<Vec<Label>, Failure> {
    let label = |argument| match argument {
        LabelArgument::Number(number) => Label::Number(number),
        LabelArgument::Text(text) => Label::Text(text),
    };
    let labels: Vec<Label> = arguments.into_iter().map(label).collect();
    labels.iter().try_for_each(Label::check)?;
    Ok(labels)
}

/// Ids that can be stored, as files have them.
pub fn ids(arguments: Vec<IdArgument>) -> Result<Vec<ItemId>, Failure> {
    let id = |argument| match argument {
        IdArgument::Number(number) => ItemId::Number(number),
        IdArgument::Text(text) => ItemId::Text(text),
    };
    let ids: Vec<ItemId> = arguments.into_iter().map(id).collect();
    ids.iter().try_for_each(ItemId::check)?;
    Ok(ids)
}
