//! Counts, and the alias that leads to the old vectors or to the new ones.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::json;

use super::alias::{aliases, point};
use super::collection::{Collection, delete};
use super::engine::Qdrant;
use super::point::{Dense, Selection, marks, retrieve};
use super::point_id::PointId;
use super::record::Which;
use crate::engine::{Migration, Pace, Showing, Shown, Standing};
use crate::error::ConnectError;
use crate::observer::Silent;
use crate::qualified_name::QualifiedName;

/// Points that are compared at a time.
const AT_ONCE: usize = 512;

impl Showing for Qdrant {
    /// Programs write by the alias.
    const WRITES_FOLLOW: bool = true;

    /// Reads every point of the collection with its vectors and payload, and marks and ids of the copies.
    async fn standing(&mut self, migration: &Migration<PointId>) -> Result<Standing, ConnectError> {
        self.check_copies(migration)?;
        let (name, copies) = (&self.collection.name, &migration.copies.name);
        let mut standing = Standing::default();
        let mut pace = Pace::new(self.rate)?;
        let mut at_once = self.page_points(AT_ONCE);
        let mut from: Option<PointId> = None;
        loop {
            let page = self.page(name, &Selection::all(), from.as_ref(), &mut at_once)?;
            let count = page.points.len();
            standing.rows += count as u64;
            let ids: Vec<PointId> = page.points.iter().map(|point| point.id.clone()).collect();
            let marks = marks(&self.client, copies, &ids)?;
            for (id, point) in ids.into_iter().zip(page.points) {
                let (dense, carried) = point.parts(&self.vector)?;
                let none = dense == Dense::None;
                standing.without_vector += u64::from(none);
                match marks.get(&id) {
                    None => standing.missing += u64::from(!none),
                    Some(None) => {}
                    Some(Some(mark)) => standing.changed += u64::from(*mark != carried.mark),
                }
            }
            pace.after(count, &Silent).await?;
            from = page.next_page_offset;
            if from.is_none() {
                break;
            }
        }
        let mut at_once = self.page_points(AT_ONCE);
        loop {
            let page = self.page(copies, &Selection::marks(), from.as_ref(), &mut at_once)?;
            let count = page.points.len() as u64;
            standing.copies += count;
            let marked = page.points.iter().filter(|point| point.mark().is_some());
            let ids: Vec<PointId> = marked.map(|point| point.id.clone()).collect();
            standing.written_by_application += count - ids.len() as u64;
            let there = retrieve(&self.client, name, &Selection::ids(), &ids)?;
            let there: HashSet<PointId> = there.into_iter().map(|point| point.id).collect();
            standing.orphaned += ids.iter().filter(|id| !there.contains(id)).count() as u64;
            pace.after(page.points.len(), &Silent).await?;
            from = page.next_page_offset;
            if from.is_none() {
                return Ok(standing);
            }
        }
    }

    /// Aliases have no schema; what looked like one is part of the name.
    async fn placed(&self, view: &QualifiedName) -> Result<QualifiedName, ConnectError> {
        Ok(QualifiedName::from(&*view.to_string()))
    }

    /// An alias that leads to the migrated collection already is the one that programs use.
    async fn check_view(
        &self,
        migration: &Migration<PointId>,
        view: &QualifiedName,
    ) -> Result<(), ConnectError> {
        if let Some(meant) = aliases(&self.client)?.get(&view.name) {
            return match [&self.collection.name, &migration.copies.name].contains(&meant) {
                true => Ok(()),
                false => Err(ConnectError::State(format!(
                    "{view} is an alias of collection {meant}; choose another name for the alias"
                ))),
            };
        }
        match Collection::find(&self.client, &view.name)? {
            None => Ok(()),
            Some(_) => Err(ConnectError::State(format!(
                "{view} is a collection, and no alias can have its name; choose another one, and let programs read by it"
            ))),
        }
    }

    /// In one call. The name of the alias is noted before, and where it leads is asked of the server, so a kill in between changes nothing.
    async fn show(
        &mut self,
        migration: &Migration<PointId>,
        view: &QualifiedName,
        shown: Shown,
        _: Duration,
    ) -> Result<(), ConnectError> {
        self.note_fields(&migration.name, json!({"alias": view.name}))?;
        let to = match shown {
            Shown::Old => &self.collection.name,
            Shown::New => &migration.copies.name,
        };
        point(&self.client, &view.name, to)
    }

    async fn remove(&mut self, migration: &Migration<PointId>) -> Result<(), ConnectError> {
        let copies = &migration.copies.name;
        let found = aliases(&self.client)?;
        if let Some((alias, _)) = found.iter().find(|&(_, meant)| meant == copies) {
            return Err(ConnectError::Refused(format!(
                "alias {alias} leads to {copies}; point it somewhere else first"
            )));
        }
        self.keep()?;
        delete(&self.client, copies)?;
        Which::new(&self.collection.name, &migration.name).forget(&self.client)
    }
}
