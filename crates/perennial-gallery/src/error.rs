//! Errors, with remedies.

use std::path::{Path, PathBuf};

use perennial_core::{ItemId, ItemIdError, NameError};

use crate::limits::{
    MAX_BATCH, MAX_DIM, MAX_LIMIT, MAX_PAYLOAD_BYTES, MAX_PAYLOAD_DEPTH, MAX_SPACES, NORM_TOLERANCE,
};

/// Errors of a gallery operation. A failed operation changes nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GalleryError {
    /// A text id that cannot be stored.
    #[error(transparent)]
    InvalidId(#[from] ItemIdError),
    /// The name of a model version cannot be stored.
    #[error("item {id}: model version {source}")]
    InvalidVersion {
        /// The item.
        id: ItemId,
        /// The problem.
        source: NameError,
    },
    /// A vector of another dimension than those of its space.
    #[error("{what}: the vector has {found} dimensions, but those of its space have {expected}")]
    WrongDimension {
        /// The item or query.
        what: String,
        /// Dimensions given.
        found: usize,
        /// Dimensions of the space.
        expected: usize,
    },
    /// A dimension that no gallery accepts.
    #[error("{what}: the vector has {found} dimensions; 1 to {MAX_DIM} are supported")]
    UnsupportedDimension {
        /// The item or query.
        what: String,
        /// Dimensions given.
        found: usize,
    },
    /// More spaces than [`MAX_SPACES`].
    #[error("the gallery has known {MAX_SPACES} spaces, the most that it can; start a new gallery")]
    TooManySpaces,
    /// A vector with NaN or infinity.
    #[error("{what}: value {index} of the vector is not finite")]
    NonFinite {
        /// The item or query.
        what: String,
        /// Position in the vector.
        index: usize,
    },
    /// A vector that is not of unit length.
    #[error(
        "{what}: the vector has length {norm}, not 1 within {NORM_TOLERANCE}; normalise it first"
    )]
    NotUnit {
        /// The item or query.
        what: String,
        /// Its length.
        norm: f32,
    },
    /// A payload larger than [`MAX_PAYLOAD_BYTES`].
    #[error(
        "item {id}: the payload has {bytes} bytes as JSON; the limit is {MAX_PAYLOAD_BYTES}, store large data elsewhere and only a reference here"
    )]
    PayloadTooLarge {
        /// The item.
        id: ItemId,
        /// Size of the payload.
        bytes: usize,
    },
    /// A payload of more than [`MAX_PAYLOAD_DEPTH`] objects and lists inside one another.
    #[error(
        "item {id}: the payload has more than {MAX_PAYLOAD_DEPTH} objects and lists inside one another, and could not be read back; flatten it"
    )]
    PayloadTooDeep {
        /// The item.
        id: ItemId,
    },
    /// The same id twice in one call.
    #[error("id {id} occurs twice in one batch; send each item once")]
    DuplicateId {
        /// The id.
        id: ItemId,
    },
    /// More items, ids or queries than [`MAX_BATCH`].
    #[error("a batch of {found} exceeds the limit of {MAX_BATCH}; split it")]
    BatchTooLarge {
        /// Entries given.
        found: usize,
    },
    /// A limit outside of 1 to [`MAX_LIMIT`].
    #[error("the limit must be 1 to {MAX_LIMIT}, got {limit}")]
    InvalidLimit {
        /// The limit given.
        limit: usize,
    },
    /// An invalid filter.
    #[error("filter: {field} {problem}")]
    InvalidFilter {
        /// The condition.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Deleting with a filter that has no condition.
    #[error(
        "the filter has no condition and would delete every item; set a condition, or ask for every item explicitly"
    )]
    EmptyFilter,
    /// No simplex of so many vertices can be stored.
    #[error("a simplex needs 2 to {} vertices, got {vertices}", MAX_DIM + 1)]
    InvalidIdentity {
        /// Vertices given.
        vertices: usize,
    },
    /// The space belongs to another simplex.
    #[error(
        "the stored items of this space belong to a simplex of {stored} vertices, not {given}; use another name, or delete them first"
    )]
    IdentityMismatch {
        /// Vertices that the stored items have.
        stored: usize,
        /// Vertices given.
        given: usize,
    },
    /// The simplex does not fit the vectors that are stored already.
    #[error(
        "a simplex of {vertices} vertices has embeddings of {expected} dimensions, but the space has vectors of {stored}"
    )]
    IdentityDimension {
        /// Vertices given.
        vertices: usize,
        /// The dimension that follows.
        expected: usize,
        /// The dimension stored.
        stored: usize,
    },
    /// A gallery of more rows than positions can be numbered.
    #[error("the gallery is full: at most {} rows are supported", u32::MAX)]
    Full,
    /// A folder or a setting that cannot work.
    #[error("gallery setting {key}: {problem}")]
    InvalidConfig {
        /// The setting.
        key: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Another process, or another handle in this one, has the folder open.
    #[error(
        "{} is in use by another process; stop that process, send the request to it if it is a service, or use another folder",
        path.display()
    )]
    Locked {
        /// The database.
        path: PathBuf,
    },
    /// There is no gallery, and the open mode does not permit creating one.
    #[error("no gallery at {}; check the folder's name", path.display())]
    Missing {
        /// The database that was looked for.
        path: PathBuf,
    },
    /// The file at the database's path is not a gallery.
    #[error("{} is not a gallery: {problem}; move it away, or use another folder", path.display())]
    NotAGallery {
        /// The path of the database.
        path: PathBuf,
        /// What is there instead.
        problem: String,
    },
    /// The gallery was opened for reading only.
    #[error("{} is open for reading only; open it for writing, or change another gallery", path.display())]
    ReadOnly {
        /// The database.
        path: PathBuf,
    },
    /// The file or its folder does not permit writing.
    #[error(
        "{} cannot be written ({problem}); permit writing, or open the gallery for reading only", path.display()
    )]
    NotWritable {
        /// The database.
        path: PathBuf,
        /// What the system said.
        problem: String,
    },
    /// A compaction is running already.
    #[error("a compaction of this gallery is already running; wait until it is done")]
    Compacting,
    /// A compaction would not fit on the disk. Nothing was changed.
    #[error(
        "not enough free disk space to compact: about {needed} bytes are needed beside {}, {free} are free; nothing was changed",
        path.display()
    )]
    NoSpace {
        /// The database.
        path: PathBuf,
        /// Bytes that the copy is expected to take.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// The database is damaged.
    #[error(
        "{} is damaged ({problem}); move it away, then restore a snapshot, or fill the gallery anew", path.display()
    )]
    Corrupt {
        /// The database.
        path: PathBuf,
        /// What was found.
        problem: String,
    },
    /// The database was written by a version of this program that is not understood.
    #[error(
        "{} has format {found}, but this program reads format {expected}; use the program that wrote it to make a snapshot", path.display()
    )]
    Format {
        /// The database or snapshot.
        path: PathBuf,
        /// Format found.
        found: u64,
        /// Format understood.
        expected: u64,
    },
    /// The disk is full or fails. Nothing of the operation was acknowledged; what was stored before stays readable.
    #[error("{}: {problem}; free disk space or check the disk, then try again", path.display())]
    Storage {
        /// The database.
        path: PathBuf,
        /// What the storage said.
        problem: String,
    },
    /// The thread that writes met a defect of this program, and works on. Whether the write was carried out is not known.
    #[error(
        "{}: the writer met a defect ({problem}); look whether the write was carried out, try again, and report it with the log", path.display()
    )]
    Defect {
        /// The database.
        path: PathBuf,
        /// The text of the panic.
        problem: String,
    },
    /// A file next to the database could not be read or written.
    #[error("{problem}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said, naming the file.
        problem: String,
    },
    /// A snapshot that cannot be restored. Nothing was changed.
    #[error("snapshot {}: {problem}; nothing was changed, use another snapshot", path.display())]
    Snapshot {
        /// The snapshot.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The approximate index refused an operation.
    #[error("approximate index: {problem}")]
    Index {
        /// What it said.
        problem: String,
    },
    /// The database that holds the gallery cannot be reached, or refused. Nothing of the operation was acknowledged.
    #[error("the gallery in the database {server}: {problem}")]
    Database {
        /// Host, port and name of the database.
        server: String,
        /// What it said.
        problem: String,
    },
    /// The database that holds the gallery is at work for others, and no place to wait for it is left. The operation was not begun.
    #[error("the gallery in the database {server} is busy: {problem}; try again later")]
    Busy {
        /// Host, port and name of the database.
        server: String,
        /// What is in the way.
        problem: String,
    },
    /// A search by mapped vectors of a space of which no such index is kept, as after it was let go.
    #[error(
        "no index of mapped vectors of {space} is kept; search again, by the routes of this moment"
    )]
    NotMapped {
        /// The space of the items.
        space: String,
    },
    /// An operation, or an item, that this kind of store does not have.
    #[error("{problem}")]
    NotOffered {
        /// What it is, and what to do instead.
        problem: String,
    },
    /// The gallery is being closed, or the thread that writes is gone.
    #[error("the gallery is closed; open it again")]
    Closed,
}

impl GalleryError {
    pub(crate) fn file(path: &Path, error: impl std::fmt::Display) -> Self {
        Self::File {
            path: path.to_owned(),
            problem: error.to_string(),
        }
    }

    pub(crate) fn snapshot(path: &Path, problem: impl Into<String>) -> Self {
        Self::Snapshot {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }

    /// Whether the caller's input is at fault, so that trying again cannot help.
    pub fn is_invalid_input(&self) -> bool {
        matches!(
            self,
            Self::InvalidId(_)
                | Self::InvalidVersion { .. }
                | Self::WrongDimension { .. }
                | Self::UnsupportedDimension { .. }
                | Self::TooManySpaces
                | Self::NonFinite { .. }
                | Self::NotUnit { .. }
                | Self::PayloadTooLarge { .. }
                | Self::PayloadTooDeep { .. }
                | Self::DuplicateId { .. }
                | Self::BatchTooLarge { .. }
                | Self::InvalidLimit { .. }
                | Self::InvalidFilter { .. }
                | Self::EmptyFilter
                | Self::InvalidIdentity { .. }
        )
    }
}
