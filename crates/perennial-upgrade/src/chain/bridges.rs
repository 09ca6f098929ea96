//! The bridges between the versions of a chain, each fitted once for all routes.

use std::rc::Rc;

use perennial_bridge::{Bridge, Recipe};

use super::route::BridgePath;
use super::version::{ChainVersion, fit_pairs};
use crate::measured::MeasureError;
use crate::route::RouteError;
use crate::selection::fit_rows;

/// Fits and composes bridges as they are asked for.
pub(super) struct ChainBridges<'a> {
    versions: &'a [ChainVersion],
    made: Vec<Made>,
}

struct Made {
    recipe: Recipe,
    path: BridgePath,
    from: usize,
    to: usize,
    bridge: Rc<Bridge>,
}

impl<'a> ChainBridges<'a> {
    pub(super) fn new(versions: &'a [ChainVersion]) -> Self {
        Self {
            versions,
            made: Vec::new(),
        }
    }

    /// The bridge from version `from` to the older version `to`. Ask for one `to` after the other, and within it for rising `from`: bridges
    /// that this order does not need again are dropped, as those of a long chain would take gigabytes.
    pub(super) fn get(
        &mut self,
        recipe: Recipe,
        path: BridgePath,
        from: usize,
        to: usize,
    ) -> Result<Rc<Bridge>, MeasureError> {
        let neighbours = from == to + 1;
        // Between neighbours there is nothing to compose.
        let path = if neighbours { BridgePath::Direct } else { path };
        let known = self.made.iter().find(|made| {
            (made.recipe, made.path) == (recipe, path) && (made.from, made.to) == (from, to)
        });
        if let Some(known) = known {
            return Ok(Rc::clone(&known.bridge));
        }
        let bridge = Rc::new(match path {
            BridgePath::Direct => self.fit(recipe, from, to, "bridged")?,
            BridgePath::Composed => {
                let first = self.get(recipe, BridgePath::Direct, from, from - 1)?;
                let rest = self.get(recipe, path, from - 1, to)?;
                first.then(&rest)?
            }
        });
        // Those between neighbours are part of every composed one, and are asked for on the way to one. Of the others, a dual query needs
        // the version before as well.
        if !neighbours {
            self.made.retain(|made| {
                made.from == made.to + 1 || (made.to == to && made.from + 1 >= from)
            });
        }
        self.made.push(Made {
            recipe,
            path,
            from,
            to,
            bridge: Rc::clone(&bridge),
        });
        Ok(bridge)
    }

    /// The bridge from version `old` to the newer version `new`, fitted on the same inputs. A pair's mapped vectors need it once, so it is not
    /// kept.
    pub(super) fn mapping(
        &self,
        recipe: Recipe,
        old: usize,
        new: usize,
    ) -> Result<Bridge, MeasureError> {
        self.fit(recipe, old, new, "mapped")
    }

    fn fit(
        &self,
        recipe: Recipe,
        from: usize,
        to: usize,
        route: &'static str,
    ) -> Result<Bridge, MeasureError> {
        let [from, to] = [from, to].map(|version| &self.versions[version]);
        let Some([from, to]) = fit_pairs(from, to) else {
            return Err(RouteError::NoBridge { route }.into());
        };
        Ok(fit_rows(&from, &to, &recipe)?)
    }
}
