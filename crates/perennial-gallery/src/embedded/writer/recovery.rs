//! What the writer does after failures and defects, so that memory and database agree before anything is written.

use std::any::Any;
use std::sync::Arc;

use super::super::state::State;
use super::super::tables::{Reader, guarded};
use super::Writer;
use crate::error::GalleryError;

impl Writer {
    /// Makes sure that memory is what the database holds. A failure, even of a read, makes the database refuse everything until it is opened again. And
    /// one that was opened again may hold what could not be read into memory then: with the counters of before, new rows would take the place of
    /// others.
    pub(super) fn prepare(&mut self) -> Result<(), GalleryError> {
        let stored = self.log.reader().and_then(|reader| reader.meta());
        let agree = {
            let state = self.shared.state();
            state.reader().is_ok() && stored.is_ok_and(|stored| stored == state.meta)
        };
        match agree {
            true => Ok(()),
            false => self.recover(),
        }
    }

    /// After a defect: memory and database come together again, and nobody waits for ever.
    pub(super) fn overcome(&mut self, panic: &(dyn Any + Send)) {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        let problem = text.unwrap_or("a panic without text");
        tracing::error!(problem, "the writer of the gallery met a defect");
        let path = self.log.path().to_owned();
        // A defect beside the database leaves it usable; one inside it may have left locks that nobody gets any more.
        let again = guarded(&path, || self.follow()).or_else(|_| guarded(&path, || self.recover()));
        if let Err(error) = again {
            tracing::error!(%error, "the gallery could not be opened again");
            self.log.close();
            self.shared.state_mut().drop_reader(error.to_string());
        }
        for refuse in std::mem::take(&mut self.refusals) {
            refuse(GalleryError::Defect {
                path: path.clone(),
                problem: problem.to_owned(),
            });
        }
    }

    /// Brings the database back after a failure and says what failed.
    pub(super) fn failed(&mut self, error: redb::Error) -> String {
        let problem = error.to_string();
        tracing::warn!(problem, "the gallery could not write");
        match self.recover() {
            Ok(()) => problem,
            Err(again) => {
                tracing::error!(%again, "the gallery could not be opened again");
                format!("{problem}; then {again}")
            }
        }
    }

    /// Opens the file again, which a failed write demands. Readers wait meanwhile.
    pub(super) fn recover(&mut self) -> Result<(), GalleryError> {
        let shared = Arc::clone(&self.shared);
        // Let go after the lock.
        let mut _before = None;
        let mut state = shared.state_mut();
        state.drop_reader("it is being opened again after a failure");
        let reader = self.log.reopen().and_then(|()| self.log.reader());
        let result = reader.and_then(|reader| {
            if reader.meta()? == state.meta {
                state.set_reader(reader);
                return Ok(());
            }
            // The failed transaction, though never acknowledged, reached the disk.
            _before = Some(state.replace(self.load(reader)?));
            self.indexer.wake();
            Ok(())
        });
        if let Err(error) = &result {
            state.drop_reader(error.to_string());
        }
        result
    }

    /// Reads what the database holds into memory, where memory holds something else.
    pub(super) fn follow(&mut self) -> Result<(), GalleryError> {
        let reader = self.log.reader()?;
        let meta = reader.meta()?;
        let known = {
            let state = self.shared.state();
            state.reader().is_ok() && state.meta == meta
        };
        if !known {
            let read = self.load(reader)?;
            let before = self.shared.state_mut().replace(read);
            drop(before);
            self.indexer.wake();
        }
        Ok(())
    }

    fn load(&self, reader: Reader) -> Result<State, GalleryError> {
        State::load(reader, self.shared.with_codes(), self.shared.threads())
    }

    /// After something that is durable already, and so is no failure: if this does not succeed, reads say why, and the next command tries again.
    pub(super) fn recover_later(&mut self) {
        if let Err(error) = self.recover() {
            tracing::error!(%error, "the gallery could not be opened again");
        }
    }
}
