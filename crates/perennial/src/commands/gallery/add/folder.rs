//! Synchronises a gallery with a folder of pictures: new files are added, changed files replace their items, items of deleted
//! files are pruned on request, and no other item is changed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use perennial_core::item_id::MAX_ID_BYTES;
use perennial_data::pictures::{
    LeftOut, LeftOutFile, PictureFile, PictureFolder, Reason, in_batches,
};
use perennial_encode::Picture;
use perennial_gallery::ItemId;
use perennial_gallery::limits::MAX_PAYLOAD_BYTES;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::destination::{Destination, MAX_CALL, NewPicture, StoredPicture, keys};
use crate::exit_status::usage;
use crate::interrupt::Interrupt;
use crate::left_out::LeftOutAnswer;
use crate::progress::CountedProgress;
use crate::terminal::Terminal;

/// Sides of thumbnails, in pixels: the first whose file fits into a payload is taken.
const THUMBNAIL_SIDES: [u32; 3] = [96, 64, 32];
/// The longest name of a root, in bytes.
const MAX_ROOT_BYTES: usize = 4096;

/// How pictures are added.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Prefix of ids, before a `/`.
    pub prefix: Option<String>,
    /// Name of the folder in the gallery, instead of its absolute path.
    pub root: Option<String>,
    /// Delete items of the folder whose file is gone.
    pub prune: bool,
    /// Stop at the first picture that cannot be used.
    pub strict: bool,
    /// Store no thumbnails.
    pub no_thumbnails: bool,
}

/// The result of adding a folder.
#[derive(Debug, Serialize)]
pub struct FolderReport {
    /// The folder as it was named.
    pub folder: PathBuf,
    /// Its name in the gallery.
    pub root: String,
    /// Pictures that were not there.
    pub inserted: usize,
    /// Pictures that took the place of an item: another file content, or another version.
    pub replaced: usize,
    /// Pictures that are stored as they are.
    pub unchanged: usize,
    /// Items that were deleted because their file is gone.
    pub pruned: usize,
    /// Seconds that reading, embedding and storing took.
    pub seconds: f64,
    /// Files looked at per second.
    pub files_per_second: f64,
    /// The files that were left out, for JSON.
    #[serde(rename = "left_out")]
    pub answer: LeftOutAnswer,
    #[serde(skip)]
    pub left_out: LeftOut,
}

/// An item that the folder stored before.
struct Known {
    sha256: Option<String>,
    label: Option<u32>,
    model_version: String,
    file: String,
}

/// A folder, and its items in the gallery.
pub struct Plan {
    path: PathBuf,
    folder: PictureFolder,
    root: String,
    known: HashMap<String, Known>,
    labels: BTreeMap<String, u32>,
}

impl Plan {
    /// Lists a folder and looks up its stored items; changes nothing.
    ///
    /// **Errors**: a folder that cannot be listed, and an id that already belongs to an item of another origin.
    pub fn new(
        destination: &dyn Destination,
        path: &Path,
        options: &Options,
    ) -> anyhow::Result<Self> {
        let mut folder = PictureFolder::list(path)?;
        folder.retain(|file| check_id(file, options.prefix.as_deref()));
        let root = root_name(folder.root(), options.root.as_deref())?;
        let mut plan = Self {
            path: path.to_owned(),
            folder,
            root,
            known: HashMap::new(),
            labels: BTreeMap::new(),
        };
        plan.check_strict(options)?;
        plan.look_up(destination, options)?;
        plan.check_conflicts(destination, options)?;
        Ok(plan)
    }

    /// The name of the folder in the gallery.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// The ids of the folder's files.
    pub fn ids(&self, options: &Options) -> impl Iterator<Item = String> {
        let prefix = options.prefix.clone();
        let files = self.folder.files().iter();
        files.map(move |file| item_id(prefix.as_deref(), file.relative()))
    }

    fn check_strict(&self, options: &Options) -> anyhow::Result<()> {
        match self.folder.left_out().first_loss() {
            Some(loss) if options.strict => Err(self.loss(loss)),
            _ => Ok(()),
        }
    }

    fn loss(&self, loss: &LeftOutFile) -> anyhow::Error {
        anyhow::anyhow!("{}: {loss}", self.path.display())
    }

    fn look_up(&mut self, destination: &dyn Destination, options: &Options) -> anyhow::Result<()> {
        let prefix = options.prefix.as_deref();
        let (known, labels) = (&mut self.known, &mut self.labels);
        destination.stored_from(&self.root, &mut |stored: StoredPicture| {
            let Some(file) = stored.file else {
                return Ok(());
            };
            // The same folder may have been added with another prefix; those items are others.
            if stored.id != item_id(prefix, &file) {
                return Ok(());
            }
            if let (Some(class), Some(label)) = (stored.class, stored.label) {
                labels.entry(class).or_insert(label);
            }
            let entry = Known {
                sha256: stored.sha256,
                label: stored.label,
                model_version: stored.model_version,
                file,
            };
            known.insert(stored.id, entry);
            Ok(())
        })
    }

    fn check_conflicts(
        &self,
        destination: &dyn Destination,
        options: &Options,
    ) -> anyhow::Result<()> {
        let new: Vec<String> = self
            .ids(options)
            .filter(|id| !self.known.contains_key(id))
            .collect();
        for ids in new.chunks(MAX_CALL) {
            let Some(other) = destination.stored_as(ids)?.into_iter().next() else {
                continue;
            };
            let id = &other.id;
            let advice = "--prefix NAME keeps both, as NAME/";
            return Err(match &other.root {
                Some(root) if *root != self.root => usage(format!(
                    "item {id} was added from {root}; adding it from {} would replace it; {advice}{id}. If the folder was only moved, pass --root {root}",
                    self.root
                )),
                _ => usage(format!(
                    "item {id} is already in the gallery and was not added from {}; adding {} would replace it; {advice}{id}",
                    self.root,
                    self.path.join(id).display(),
                )),
            });
        }
        Ok(())
    }

    /// Adds, replaces and prunes.
    ///
    /// **Errors**: a destination that fails, Ctrl-C, and with `strict` the first picture that cannot be used. Items stored until
    /// then stay, and adding the folder again continues from there.
    pub fn carry_out(
        mut self,
        destination: &dyn Destination,
        options: &Options,
        interrupt: Interrupt,
        terminal: &Terminal,
    ) -> anyhow::Result<FolderReport> {
        let mut labels = Labels::new(std::mem::take(&mut self.labels));
        let files = self.folder.files();
        let version = destination.model_version().to_owned();
        let title = format!("{version} on {}", self.path.display());
        let progress = CountedProgress::new(terminal, title, files.len() as u64, "files");
        let begun = Instant::now();
        let known = &self.known;
        let reader = Reader {
            root: &self.root,
            destination,
            version: &version,
            known,
            options,
        };
        let mut left_out = self.folder.left_out().clone();
        let (mut inserted, mut replaced, mut unchanged) = (0, 0, 0);
        in_batches(
            files,
            destination.batch().min(MAX_CALL),
            |file| reader.read(file),
            |read: Vec<Result<Read, LeftOutFile>>| {
                let count = read.len();
                let mut pictures = Vec::new();
                for result in read {
                    match result {
                        Ok(Read::Unchanged) => unchanged += 1,
                        Ok(Read::Changed(file, picture)) => {
                            let mut picture = *picture;
                            picture.label = file.class().map(|class| labels.of(class));
                            pictures.push(picture);
                        }
                        Err(loss) if options.strict && loss.reason.is_loss() => {
                            return Err(self.loss(&loss));
                        }
                        Err(loss) => left_out.add(loss),
                    }
                }
                if !pictures.is_empty() {
                    let stored = destination.store(pictures)?;
                    inserted += stored.inserted;
                    replaced += stored.replaced;
                }
                progress.advance(count as u64);
                interrupt.check()
            },
        )?;
        let seconds = begun.elapsed().as_secs_f64();
        progress.finish();
        if inserted + replaced + unchanged == 0 && self.known.is_empty() {
            let what = left_out.summary();
            let what = what.map_or_else(String::new, |summary| format!("; {summary}"));
            anyhow::bail!("{}: holds no readable picture{what}", self.path.display());
        }
        let pruned = match options.prune {
            true => self.prune(destination, options)?,
            false => 0,
        };
        Ok(FolderReport {
            inserted,
            replaced,
            unchanged,
            pruned,
            seconds,
            files_per_second: self.folder.files().len() as f64 / seconds.max(1e-9),
            answer: LeftOutAnswer::from(&left_out),
            left_out,
            folder: self.path,
            root: self.root,
        })
    }

    /// Deletes the items of this folder whose file is not there any more. A file that is there but cannot be read, and everything in a
    /// folder that cannot be listed, keeps its item.
    fn prune(&self, destination: &dyn Destination, options: &Options) -> anyhow::Result<usize> {
        if self.known.is_empty() {
            return Ok(0);
        }
        if self.folder.files().is_empty() {
            anyhow::bail!(
                "{} is empty, so nothing was pruned; check that its disk is mounted, or delete its {} items with `perennial gallery delete`",
                self.path.display(),
                self.known.len()
            );
        }
        let there: HashSet<String> = self.ids(options).collect();
        let left_out: HashSet<&str> = self
            .folder
            .left_out()
            .files()
            .iter()
            .map(|file| file.file.as_str())
            .collect();
        let in_unlisted = |file: &str| {
            let mut folders = self.folder.unlisted().iter();
            folders.any(|folder| {
                let rest = file.strip_prefix(folder.as_str());
                rest.is_some_and(|rest| rest.starts_with('/'))
            })
        };
        let mut gone: Vec<String> = self
            .known
            .iter()
            .filter(|(id, known)| {
                !there.contains(*id)
                    && !left_out.contains(known.file.as_str())
                    && !in_unlisted(&known.file)
            })
            .map(|(id, _)| id.clone())
            .collect();
        gone.sort_unstable();
        let mut pruned = 0;
        for ids in gone.chunks(MAX_CALL) {
            pruned += destination.delete(ids)?;
        }
        Ok(pruned)
    }
}

/// The result of reading one file.
enum Read<'a> {
    /// The stored item matches the file.
    Unchanged,
    /// To be stored; the label is given where the order is known.
    Changed(&'a PictureFile, Box<NewPicture>),
}

/// Reads files on all cores.
struct Reader<'a> {
    root: &'a str,
    destination: &'a dyn Destination,
    version: &'a str,
    known: &'a HashMap<String, Known>,
    options: &'a Options,
}

impl Reader<'_> {
    fn read<'f>(&self, file: &'f PictureFile) -> Result<Read<'f>, LeftOutFile> {
        let bytes = file.read()?;
        let sha256 = perennial_core::sha256_hex(&bytes);
        let id = item_id(self.options.prefix.as_deref(), file.relative());
        let is_same = |known: &Known| {
            known.sha256.as_deref() == Some(sha256.as_str())
                && known.model_version == self.version
                && known.label.is_some() == file.class().is_some()
        };
        if self.known.get(&id).is_some_and(is_same) {
            return Ok(Read::Unchanged);
        }
        let picture = file.decode(&bytes)?;
        let content = self.destination.content(&bytes, &picture);
        let content = content.map_err(|error| LeftOutFile {
            file: file.relative().to_owned(),
            reason: Reason::TooLarge,
            problem: format!("{error:#}"),
        })?;
        drop(bytes);
        let mut payload = Map::new();
        payload.insert(keys::FILE.to_owned(), json!(file.relative()));
        if let Some(class) = file.class() {
            payload.insert(keys::CLASS.to_owned(), json!(class));
        }
        payload.insert(keys::WIDTH.to_owned(), json!(picture.width()));
        payload.insert(keys::HEIGHT.to_owned(), json!(picture.height()));
        payload.insert(keys::ROOT.to_owned(), json!(self.root));
        payload.insert(keys::SHA256.to_owned(), json!(sha256));
        if !self.options.no_thumbnails
            && let Some(thumbnail) = thumbnail(&picture, payload_bytes(&payload))
        {
            payload.insert(keys::THUMBNAIL.to_owned(), json!(thumbnail));
        }
        Ok(Read::Changed(
            file,
            Box::new(NewPicture {
                id,
                label: None,
                payload,
                content,
            }),
        ))
    }
}

/// The largest thumbnail that fits beside the rest of a payload, as data URL.
fn thumbnail(picture: &Picture, taken: usize) -> Option<String> {
    // Quotes, colon, comma and the key itself.
    let room = MAX_PAYLOAD_BYTES.checked_sub(taken + keys::THUMBNAIL.len() + 8)?;
    THUMBNAIL_SIDES.into_iter().find_map(|side| {
        let jpeg = picture.thumbnail(side).ok()?;
        let url = format!("data:image/jpeg;base64,{}", BASE64_STANDARD.encode(jpeg));
        (url.len() <= room).then_some(url)
    })
}

fn payload_bytes(payload: &Map<String, Value>) -> usize {
    serde_json::to_string(payload).map_or(usize::MAX / 2, |text| text.len())
}

/// Numbers of classes: those that items of the folder have already, and the next numbers for new classes, so that a number always
/// stands for the same class.
struct Labels {
    known: BTreeMap<String, u32>,
    next: u32,
}

impl Labels {
    fn new(known: BTreeMap<String, u32>) -> Self {
        let next = known
            .values()
            .max()
            .map_or(0, |last| last.saturating_add(1));
        Self { known, next }
    }

    fn of(&mut self, class: &str) -> u32 {
        if let Some(&label) = self.known.get(class) {
            return label;
        }
        let label = self.next;
        self.next = self.next.saturating_add(1);
        self.known.insert(class.to_owned(), label);
        label
    }
}

/// The id of a file's item.
fn item_id(prefix: Option<&str>, relative: &str) -> String {
    match prefix {
        Some(prefix) => format!("{prefix}/{relative}"),
        None => relative.to_owned(),
    }
}

fn check_id(file: &PictureFile, prefix: Option<&str>) -> Result<(), LeftOutFile> {
    let id = item_id(prefix, file.relative());
    let problem = if id.len() > MAX_ID_BYTES {
        format!(
            "its id would have {} bytes, and ids have at most {MAX_ID_BYTES}; shorten its name or the prefix",
            id.len()
        )
    } else if ItemId::Text(id.clone()).check().is_err() {
        "its name holds a control character; rename it".to_owned()
    } else if id
        .parse::<u64>()
        .is_ok_and(|number| number.to_string() == id)
    {
        // On the command line such an id would name another item.
        "its name is a number and would be read as a numeric id; rename it, or pass --prefix"
            .to_owned()
    } else {
        return Ok(());
    };
    Err(LeftOutFile {
        file: file.relative().to_owned(),
        reason: Reason::UnusableName,
        problem,
    })
}

/// Checks the name of a folder.
pub fn check_root(name: &str) -> anyhow::Result<()> {
    if name.is_empty() || name.len() > MAX_ROOT_BYTES || name.chars().any(char::is_control) {
        return Err(usage(format!(
            "--root {name:?} must have 1 to {MAX_ROOT_BYTES} bytes and no control characters"
        )));
    }
    Ok(())
}

fn root_name(folder: &Path, given: Option<&str>) -> anyhow::Result<String> {
    let name = given
        .or_else(|| folder.to_str())
        .filter(|name| check_root(name).is_ok());
    let name = name.ok_or_else(|| {
        usage(format!(
            "the path {} cannot be stored as text; pass --root NAME to name the folder in the gallery",
            folder.display()
        ))
    })?;
    Ok(name.to_owned())
}
