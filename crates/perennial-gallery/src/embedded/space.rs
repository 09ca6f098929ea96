//! Estimates the disk space of a gallery's items without asking the database, which would have to visit every page.

/// Bytes of a page of the database.
const PAGE: u64 = 4096;
/// What a record or an id costs beside its own bytes.
const ENTRY: u64 = 16;
/// What a database without items takes, tables of the database's own included.
const EMPTY: u64 = 64 << 10;

/// The space of a set of records and their ids, estimated from their lengths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Space {
    bytes: u64,
}

impl Space {
    pub(super) fn add(&mut self, record: usize, id_key: usize) {
        self.bytes += cost(record, id_key);
    }

    pub(super) fn add_all(&mut self, other: Self) {
        self.bytes += other.bytes;
    }

    pub(super) fn remove(&mut self, record: usize, id_key: usize) {
        self.bytes = self.bytes.saturating_sub(cost(record, id_key));
    }

    /// The size of a file that holds them and no more.
    pub(super) fn file(self) -> u64 {
        EMPTY + self.bytes
    }
}

/// Small entries share pages, larger ones have pages of their own, in sizes that are powers of two.
fn cost(record: usize, id_key: usize) -> u64 {
    let entry = record as u64 + ENTRY;
    let record = match entry {
        ..=PAGE => {
            let per_page = (PAGE - ENTRY) / entry.min(PAGE - ENTRY);
            PAGE / per_page
        }
        _ => entry.next_power_of_two(),
    };
    // Ids come in any order, which leaves their pages about two thirds full.
    record + (id_key as u64 + ENTRY + 8) * 3 / 2
}
