//! Opening a gallery, with its files in the system's memory and with their content on the disk alone, against reading these files.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;

use perennial_gallery::{EmbeddedGallery, GalleryConfig, IndexKind, IndexProgress, Maintenance};

use super::search::{self, Vectors};
use super::timing::{Measurement, Ratio, median_ratio};
use crate::exit_status::usage;

/// Opening should take at most this many times as long as reading the files.
const AIM: f64 = 2.0;

/// Opens a gallery without and with its graph, and reads the files that this needs, in turn. The gallery is that of an earlier run in `kept`, which
/// must have as many rows and values as `size` says, or is made of `vectors`, which takes far longer. Without a size, it must be made.
pub fn measure_all(
    size: Option<(usize, usize)>,
    vectors: impl FnOnce() -> anyhow::Result<Vectors>,
    samples: usize,
    threads: usize,
    kept: Option<&Path>,
) -> anyhow::Result<(Vec<Measurement>, Vec<Ratio>)> {
    let temporary = tempfile::tempdir()?;
    let folder = kept.unwrap_or(temporary.path());
    let config = |hnsw_from| GalleryConfig {
        threads,
        hnsw_from,
        ..GalleryConfig::default()
    };
    let (without, with) = (config(usize::MAX), config(1));
    let gallery = EmbeddedGallery::open(folder, without.clone())?;
    if gallery.stats()?.items == 0 {
        search::write(&gallery, &vectors()?)?;
    } else if size.is_none() {
        return Err(usage(format!(
            "the gallery in {} has items already, so those of --vectors would not be opened: name another folder for --gallery, or leave --vectors out",
            folder.display()
        )));
    }
    let stats = gallery.stats()?;
    let (rows, dim) = (stats.items as usize, stats.dim.unwrap_or(0));
    if let Some((wanted, values)) = size
        && (wanted, values) != (rows, dim)
    {
        return Err(usage(format!(
            "the gallery in {} has {rows} items of {dim} values, not {wanted} of {values}: name another folder for --gallery, or these numbers",
            folder.display()
        )));
    }
    let title = format!("{rows} x {dim}");
    drop(gallery);
    wait_for_graph(&EmbeddedGallery::open(folder, with.clone())?)?;

    let (mut found, mut ratios) = (Vec::new(), Vec::new());
    for &place in Place::of(folder)? {
        for (what, config, database_only) in [
            ("open without graph", &without, true),
            ("open with a saved graph", &with, false),
        ] {
            let files = files(folder, database_only)?;
            let (mut opening, mut reading) = (Vec::new(), Vec::new());
            place.prepare(&files)?;
            for _ in 0..samples.max(1) {
                place.prepare(&files)?;
                reading.push(timed(|| Ok(read_through(&files)?))?);
                place.prepare(&files)?;
                opening.push(timed(|| {
                    let gallery = EmbeddedGallery::open(folder, config.clone())?;
                    gallery.flush()?;
                    Ok(gallery)
                })?);
            }
            let name = format!("{what}, {title}, {}", place.name());
            let against = format!("read the files for: {name}");
            ratios.push(Ratio {
                name: name.clone(),
                against: "reading of its files".to_owned(),
                time_ratio: median_ratio(&opening, &reading),
                aim: AIM,
            });
            for (name, seconds) in [(name, opening), (against, reading)] {
                found.push(Measurement::of(name, seconds).per_call(rows, "items"));
            }
        }
    }
    Ok((found, ratios))
}

/// Where the content of files is before they are read.
#[derive(Clone, Copy)]
enum Place {
    Memory,
    /// Only Linux can be told to forget what it read.
    #[cfg(target_os = "linux")]
    Disk,
}

impl Place {
    /// Those that the files of a folder can be in.
    fn of(folder: &Path) -> anyhow::Result<&'static [Self]> {
        #[cfg(target_os = "linux")]
        {
            if !lies_in_memory(folder)? {
                return Ok(&[Self::Memory, Self::Disk]);
            }
            tracing::warn!(
                folder = %folder.display(),
                "this folder lies in memory, so nothing is measured from a disk; name one on a disk with --gallery, or with TMPDIR"
            );
        }
        #[cfg(not(target_os = "linux"))]
        let _ = folder;
        Ok(&[Self::Memory])
    }

    fn name(self) -> &'static str {
        match self {
            Self::Memory => "files in memory",
            #[cfg(target_os = "linux")]
            Self::Disk => "files on disk",
        }
    }

    fn prepare(self, files: &[PathBuf]) -> std::io::Result<()> {
        match self {
            Self::Memory => read_through(files).map(|_| ()),
            #[cfg(target_os = "linux")]
            Self::Disk => files.iter().try_for_each(|path| {
                let file = std::fs::File::open(path)?;
                // What has not been written yet stays in memory.
                file.sync_all()?;
                Ok(rustix::fs::fadvise(
                    &file,
                    0,
                    None,
                    rustix::fs::Advice::DontNeed,
                )?)
            }),
        }
    }
}

/// Whether a folder's file system has no disk.
#[cfg(target_os = "linux")]
fn lies_in_memory(folder: &Path) -> std::io::Result<bool> {
    const TMPFS: u64 = 0x0102_1994;
    const RAMFS: u64 = 0x8584_58f6;
    let system = rustix::fs::statfs(folder)?.f_type;
    Ok(matches!(system as u64 & u64::from(u32::MAX), TMPFS | RAMFS))
}

fn wait_for_graph(gallery: &EmbeddedGallery) -> anyhow::Result<()> {
    loop {
        let index = gallery.stats()?.index;
        if (index.kind, index.state) == (IndexKind::Hnsw, IndexProgress::Ready) {
            return Ok(());
        }
        std::thread::sleep(search::LOOK_AGAIN);
    }
}

/// The seconds of something whose result is let go afterwards.
fn timed<T>(work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<f64> {
    let start = Instant::now();
    let made = work()?;
    let seconds = start.elapsed().as_secs_f64();
    drop(made);
    Ok(seconds)
}

/// The database of a gallery, or all its files.
fn files(folder: &Path, database_only: bool) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs_err::read_dir(folder)? {
        let path = entry?.path();
        if !database_only || path.extension().is_some_and(|ending| ending == "redb") {
            files.push(path);
        }
    }
    Ok(files)
}

/// Reads files from the first byte to the last.
fn read_through(files: &[PathBuf]) -> std::io::Result<u64> {
    let mut bytes = 0;
    let mut part = vec![0; 1 << 20];
    for path in files {
        let mut file = fs_err::File::open(path)?;
        loop {
            match file.read(&mut part)? {
                0 => break,
                count => bytes += count as u64,
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gallery_is_made_once_and_known_again() {
        let folder = tempfile::tempdir().unwrap();
        let kept = folder.path().join("kept");
        let vectors = |rows: usize, dim: usize| {
            move || Vectors::generate(rows, search::BATCH, dim, search::Places::Clustered)
        };
        let measured = |rows: usize, dim: usize, kept: Option<&Path>| {
            measure_all(Some((rows, dim)), vectors(rows, dim), 2, 1, kept)
        };
        let (found, ratios) = measured(400, 24, Some(&kept)).unwrap();
        assert_eq!(found.len(), 2 * ratios.len());
        assert_eq!(ratios.len(), 2 * Place::of(folder.path()).unwrap().len());
        assert!(
            found
                .iter()
                .all(|one| one.median_s > 0.0 && one.samples == 2)
        );
        let of = |name: &str| {
            std::fs::metadata(kept.join(name))
                .unwrap()
                .modified()
                .unwrap()
        };
        let before = of("hnsw.graph");
        measured(400, 24, Some(&kept)).unwrap();
        assert_eq!(of("hnsw.graph"), before, "the graph was built again");
        for (rows, dim) in [(401, 24), (400, 25)] {
            let error = measured(rows, dim, Some(&kept)).unwrap_err();
            let text = error.to_string();
            assert!(text.contains("has 400 items of 24 values"), "{text}");
        }
        measured(400, 24, None).unwrap();
        // Vectors of the user's own make a gallery, and are not passed over where there is one.
        let own = |kept: &Path| measure_all(None, vectors(300, 16), 1, 1, Some(kept));
        let text = own(&kept).unwrap_err().to_string();
        assert!(text.contains("--vectors"), "{text}");
        let (found, _) = own(&folder.path().join("own")).unwrap();
        assert!(found[0].name.contains("300 x 16"), "{}", found[0].name);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn nothing_is_measured_from_a_disk_that_is_none() {
        let Ok(folder) = tempfile::tempdir_in("/dev/shm") else {
            return;
        };
        assert!(lies_in_memory(folder.path()).unwrap());
        let names = Place::of(folder.path()).unwrap().iter();
        assert!(names.map(|place| place.name()).eq(["files in memory"]));
        assert!(!lies_in_memory(Path::new("/sys")).unwrap());
    }
}
