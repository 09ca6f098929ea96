//! What is looked for, and what a measurement of it says.

use maud::{Markup, html};
use perennial_core::Verdict;

use super::interval_plot::appearance;

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Task {
    /// Any item of the query's class is right.
    ClassLike,
    /// One item, or a few judged ones, are right.
    ItemLike,
}

impl Task {
    /// The task's name: `class-like` or `item-like`.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClassLike => "class-like",
            Self::ItemLike => "item-like",
        }
    }

    /// When a hit is right.
    pub(super) fn meaning(self) -> &'static str {
        match self {
            Self::ClassLike => "any item of the query's class is a right hit",
            Self::ItemLike => "one item, or a few judged ones, are the right hits",
        }
    }
}

/// What a measurement says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The interval of the margin decided, or left it open.
    Decided(Verdict),
    /// The measurement is not able to decide, such as with too few queries.
    CannotTell,
}

impl From<Verdict> for Outcome {
    fn from(verdict: Verdict) -> Self {
        Self::Decided(verdict)
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Decided(verdict) => verdict.fmt(f),
            Self::CannotTell => f.write_str("cannot tell"),
        }
    }
}

impl Outcome {
    /// The class and the sign with which it is shown.
    fn appearance(self) -> (&'static str, &'static str) {
        match self {
            Self::Decided(verdict) => appearance(verdict),
            Self::CannotTell => ("open", "\u{2013}"),
        }
    }

    /// The word in its coloured pill; the row or box around it has the class of [`Self::appearance`].
    pub(super) fn badge(self) -> Markup {
        html! { span.badge { b aria-hidden="true" { (self.appearance().1) } " " (self) } }
    }

    pub(super) fn class(self) -> &'static str {
        self.appearance().0
    }
}
