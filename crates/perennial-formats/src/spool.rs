//! Bytes that wait until it is known what stands before them.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use perennial_core::{ItemId, OutputFile, SpaceId};

use crate::label::Label;
use crate::stream::Header;
use crate::vector_set::VectorSet;

/// What is kept in memory before a scratch file is used.
const MEMORY_BYTES: usize = 1 << 25;

/// The vectors of a file whose header needs their number: in memory while they are few, in a scratch file beside the output otherwise.
#[derive(Debug, Default)]
pub(crate) struct Spool {
    memory: Vec<u8>,
    file: Option<File>,
    bytes: u64,
}

impl Spool {
    /// Adds values in their little-endian form.
    pub(crate) fn write(&mut self, output: &OutputFile, values: &[f32]) -> io::Result<()> {
        for chunk in values.chunks(1 << 14) {
            self.memory
                .extend(chunk.iter().flat_map(|value| value.to_le_bytes()));
            self.bytes += 4 * chunk.len() as u64;
            if self.memory.len() >= MEMORY_BYTES {
                self.spill(output)?;
            }
        }
        Ok(())
    }

    fn spill(&mut self, output: &OutputFile) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(output.scratch()?),
        };
        file.write_all(&self.memory)?;
        self.memory.clear();
        Ok(())
    }

    /// Copies everything.
    pub(crate) fn copy_to(self, target: &mut impl Write) -> io::Result<()> {
        if let Some(mut file) = self.file {
            file.seek(SeekFrom::Start(0))?;
            let spilled = self.bytes - self.memory.len() as u64;
            let copied = io::copy(&mut file.take(spilled), target)?;
            if copied != spilled {
                return Err(io::Error::other(
                    "the scratch file was changed by another program",
                ));
            }
        }
        target.write_all(&self.memory)
    }
}

/// A file whose header needs the number of rows, until they are complete; ids and labels are kept in memory.
pub(crate) struct SpooledFile {
    pub(crate) output: OutputFile,
    pub(crate) dim: usize,
    pub(crate) space: Option<SpaceId>,
    pub(crate) ids: Option<Vec<ItemId>>,
    pub(crate) labels: Option<Vec<Label>>,
    pub(crate) vectors: Spool,
}

impl SpooledFile {
    pub(crate) fn new(output: OutputFile, header: &Header) -> Self {
        Self {
            output,
            dim: header.dim,
            space: header.space.clone(),
            ids: None,
            labels: None,
            vectors: Spool::default(),
        }
    }

    /// Adds rows.
    pub(crate) fn write(&mut self, batch: &VectorSet) -> io::Result<()> {
        if let Some(ids) = batch.ids() {
            self.ids.get_or_insert_default().extend_from_slice(ids);
        }
        if let Some(labels) = batch.labels() {
            self.labels
                .get_or_insert_default()
                .extend_from_slice(labels);
        }
        self.vectors.write(&self.output, batch.vectors())
    }
}
