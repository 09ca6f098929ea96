//! Takes the expected files, and nothing else, out of an archive.

use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use perennial_core::write_atomically_with;

use super::archive::{ArchiveFile, ArchiveSpec, FileSize};
use super::error::FetchError;

/// Data files of the archive that are not in `folder` yet; the texts that come with them are optional.
///
/// A file of another size than the official one is an error: it belongs to the user, and is neither used nor replaced.
pub(super) fn missing_files<'a>(
    spec: &'a ArchiveSpec,
    folder: &Path,
) -> Result<Vec<&'a ArchiveFile>, FetchError> {
    let mut missing = Vec::new();
    for file in &spec.files {
        let path = folder.join(&file.name);
        match (std::fs::metadata(&path), file.size) {
            (Ok(found), FileSize::Exactly(expected)) if found.len() != expected => {
                return Err(FetchError::InTheWay {
                    path,
                    found: found.len(),
                    expected,
                });
            }
            (Ok(_), _) => {}
            (Err(error), FileSize::Exactly(_)) if error.kind() == std::io::ErrorKind::NotFound => {
                missing.push(file)
            }
            (Err(error), _) if error.kind() == std::io::ErrorKind::NotFound => {}
            (Err(error), _) => return Err(FetchError::io(&path)(error)),
        }
    }
    Ok(missing)
}

/// Unpacks the missing files of a verified archive into `folder`, each in one step.
pub(super) fn unpack(spec: &ArchiveSpec, archive: &Path, folder: &Path) -> Result<(), FetchError> {
    let fail = |problem: String| FetchError::Archive {
        path: archive.to_path_buf(),
        problem,
    };
    let damaged = |error: std::io::Error| fail(format!("the archive cannot be unpacked: {error}"));
    // Nothing in the archive can make the decoder produce more than the files may take, headers, padding and
    // some small extra files included.
    let limit = spec
        .files
        .iter()
        .map(|file| file.size.limit() + 4096)
        .sum::<u64>()
        + (16 << 20);
    let source = std::fs::File::open(archive).map_err(FetchError::io(archive))?;
    std::fs::create_dir_all(folder).map_err(FetchError::io(folder))?;
    let mut tar = tar::Archive::new(GzDecoder::new(std::io::BufReader::new(source)).take(limit));
    for entry in tar.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let path = entry.path().map_err(damaged)?.into_owned();
        let known = spec
            .files
            .iter()
            .find(|file| path == Path::new(&spec.folder).join(&file.name));
        // Folders, links and unused files are not unpacked, whatever their paths.
        let Some(file) = known.filter(|_| entry.header().entry_type().is_file()) else {
            continue;
        };
        let size = entry.size();
        if !file.size.allows(size) {
            return Err(fail(format!(
                "{} has {size} bytes where {:?} was expected",
                file.name, file.size
            )));
        }
        let target = folder.join(&file.name);
        if target.exists() {
            continue;
        }
        write_atomically_with(&target, |target| {
            let copied = std::io::copy(&mut entry, target)?;
            if copied == size {
                Ok(())
            } else {
                Err(std::io::ErrorKind::UnexpectedEof.into())
            }
        })
        .map_err(FetchError::Write)?;
    }
    match missing_files(spec, folder)?.first() {
        None => Ok(()),
        Some(file) => Err(fail(format!("{} is missing from it", file.name))),
    }
}
