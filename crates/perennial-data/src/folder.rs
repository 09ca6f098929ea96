//! A folder of pictures as labelled images: `PATH/CLASS/.../IMAGE`, or `PATH/IMAGE` for images of one class.

use std::io::Read;
use std::path::Path;

use crate::error::MAX_BYTES;
use crate::pictures::{LeftOut, LeftOutFile, PictureFile, PictureFolder, Reason, in_batches};
use crate::record_file::allocate;
use crate::{DataError, ImageSet};
use perennial_encode::{HEAD_BYTES, Kind, kind};

/// Bytes of squares in one batch; three batches are in memory at most.
const BATCH_BYTES: usize = 16 << 20;

/// The pictures of a folder as an [`ImageSet`].
#[derive(Debug, Clone)]
pub struct FolderSet {
    /// The images, in the order of their paths.
    pub images: ImageSet,
    /// The names of the class folders, in the order of their labels; empty for a folder without any.
    pub class_names: Vec<String>,
    /// What was left out.
    pub left_out: LeftOut,
}

/// Reads every picture of a folder, at any depth, as `size` x `size` RGB.
///
/// The square in the middle of a picture is scaled. The first folder on the way to a picture is its class, and classes are numbered in
/// the order of their names; a picture beside class folders is left out, as is everything that cannot be read (see [`Reason`]).
///
/// **Shapes**: `[n, 3, size, size]`.
///
/// **Errors**: [`DataError`] naming the folder if no picture can be read, or if the set would exceed 8 GiB.
pub fn read(path: &Path, size: usize) -> Result<FolderSet, DataError> {
    let mut folder = LabelledFolder::list(path)?;
    let image_bytes = 3 * size.saturating_mul(size);
    let expected = image_bytes.saturating_mul(folder.len());
    let mut pixels = allocate::<u8>(path, expected.min(MAX_BYTES as usize))?;
    let mut labels = Vec::new();
    folder.squares(size, |squares| {
        let bytes = (labels.len() + squares.len()) as u64 * image_bytes as u64;
        if bytes > MAX_BYTES {
            return Err(DataError::TooLarge {
                path: path.to_path_buf(),
                bytes,
                limit: MAX_BYTES,
            });
        }
        for square in squares {
            pixels.extend(square.content);
            labels.push(square.label);
        }
        Ok(())
    })?;
    let name = path.file_name().map_or_else(
        || "folder".into(),
        |name| name.to_string_lossy().into_owned(),
    );
    let classes = folder.classes.len().max(1);
    Ok(FolderSet {
        images: ImageSet::new(name, [3, size, size], pixels, labels, classes)?,
        class_names: folder.class_names(),
        left_out: folder.left_out,
    })
}

/// One picture of a folder with its label, and what was made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labelled<T> {
    /// Its path below the folder.
    pub file: String,
    /// The number of its class; 0 in a folder without class folders.
    pub label: u32,
    /// What was made of it.
    pub content: T,
}

/// What became of the next files of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Portion<T> {
    /// Those that are pictures.
    pub pictures: Vec<Labelled<T>>,
    /// The others.
    pub left_out: Vec<LeftOutFile>,
}

/// The pictures of a folder and their classes, read a few at a time.
#[derive(Debug, Clone)]
pub struct LabelledFolder {
    path: std::path::PathBuf,
    files: Vec<PictureFile>,
    /// How many of the files are done, and how many of those are pictures.
    done: usize,
    pictures: usize,
    has_classes: bool,
    classes: Vec<String>,
    left_out: LeftOut,
    strict: bool,
}

impl LabelledFolder {
    /// Lists a folder; nothing is decoded yet.
    ///
    /// **Errors**: those of [`PictureFolder::list`].
    pub fn list(path: &Path) -> Result<Self, DataError> {
        let mut folder = PictureFolder::list(path)?;
        let has_classes = has_class_folders(folder.files());
        if has_classes {
            folder.retain(|file| match file.class() {
                Some(_) => Ok(()),
                None if !begins_as_picture(file) => Ok(()),
                None => Err(LeftOutFile {
                    file: file.relative().to_owned(),
                    reason: Reason::WithoutClass,
                    problem: "is not in a class folder; move it into one".to_owned(),
                }),
            });
        }
        let (files, left_out) = folder.into_parts();
        Ok(Self {
            path: path.to_path_buf(),
            files,
            done: 0,
            pictures: 0,
            has_classes,
            classes: Vec::new(),
            left_out,
            strict: false,
        })
    }

    /// Makes a picture that is left out an error.
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// Forgets one file, which the caller keeps below the folder and which is none of its pictures.
    pub fn forget(&mut self, path: &Path) {
        let name = path.file_name().unwrap_or_default();
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let (Ok(root), Ok(folder)) = (self.path.canonicalize(), folder.canonicalize()) else {
            return;
        };
        let path = folder.join(name);
        self.files.retain(|file| file.path() != path);
        if let Ok(relative) = path.strip_prefix(root) {
            self.left_out.forget(&relative.to_string_lossy());
        }
    }

    /// Takes up where an earlier pass over the same files stopped: the next `files` are done, of which these are pictures and those were left
    /// out. Gives the labels of the pictures.
    pub fn skip(
        &mut self,
        files: usize,
        pictures: &[String],
        left_out: impl IntoIterator<Item = LeftOutFile>,
    ) -> Vec<u32> {
        self.done = (self.done + files).min(self.files.len());
        self.pictures += pictures.len();
        left_out
            .into_iter()
            .for_each(|file| self.left_out.add(file));
        let class = |file: &'_ String| file.split_once('/').map(|(class, _)| class.to_owned());
        pictures
            .iter()
            .map(|file| self.label(class(file).as_deref()))
            .collect()
    }

    /// The files that may be pictures, in the order in which they are read.
    pub fn files(&self) -> &[PictureFile] {
        &self.files
    }

    /// Files that may be pictures.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there is no file that may be a picture.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The names of the classes, in the order of their labels, once the pictures were read; empty without class folders.
    pub fn class_names(&self) -> Vec<String> {
        match self.has_classes {
            true => self.classes.clone(),
            false => Vec::new(),
        }
    }

    /// Whether the pictures have classes at all.
    pub fn has_classes(&self) -> bool {
        self.has_classes
    }

    /// What is left out: what listing found, and after [`squares`](Self::squares) what reading found.
    pub fn left_out(&self) -> &LeftOut {
        &self.left_out
    }

    /// Reads, decodes and scales on all cores, and gives `take` the squares in order, some at a time.
    ///
    /// **Shapes**: a square is `[3, size, size]`.
    ///
    /// **Errors**: an error of `take`; [`DataError::Invalid`] for a size of 0; [`DataError::Folder`] if no picture can be read, or for
    /// one that is left out where that was made an error.
    pub fn squares<E: From<DataError>>(
        &mut self,
        size: usize,
        mut take: impl FnMut(Vec<Labelled<Vec<u8>>>) -> Result<(), E>,
    ) -> Result<(), E> {
        let image_bytes = 3 * size.saturating_mul(size);
        if size == 0 {
            let what = format!("image folder {}", self.path.display());
            return Err(DataError::invalid(what, "the image size must be above 0").into());
        }
        let batch = (BATCH_BYTES / image_bytes).clamp(8, 1024);
        let square = |file: &PictureFile| {
            let picture = file.picture()?;
            picture.square(size).map_err(|error| LeftOutFile {
                file: file.relative().to_owned(),
                reason: Reason::TooLarge,
                problem: error.to_string(),
            })
        };
        self.each(batch, square, |portion| take(portion.pictures))
    }

    /// Calls `prepare` for every file that is not done on all cores, and gives `take` the results in order, `batch` files at a time; a few batches are prepared
    /// ahead.
    ///
    /// **Errors**: an error of `take`; [`DataError::Folder`] if no picture can be read, or for one that is left out where that was made an
    /// error.
    pub fn each<T: Send, E: From<DataError>>(
        &mut self,
        batch: usize,
        prepare: impl Fn(&PictureFile) -> Result<T, LeftOutFile> + Sync,
        mut take: impl FnMut(Portion<T>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.check_strict()?;
        let files = std::mem::take(&mut self.files);
        let done = in_batches(
            &files[self.done..],
            batch,
            |file| prepare(file).map(|content| (file, content)),
            |prepared| {
                let count = prepared.len();
                let (mut pictures, mut left_out) = (Vec::with_capacity(count), Vec::new());
                for result in prepared {
                    match result {
                        Ok((file, content)) => {
                            pictures.push(Labelled {
                                file: file.relative().to_owned(),
                                label: self.label(file.class()),
                                content,
                            });
                        }
                        Err(refused) => {
                            self.left_out.add(refused.clone());
                            self.check_strict()?;
                            left_out.push(refused);
                        }
                    }
                }
                self.done += count;
                self.pictures += pictures.len();
                take(Portion { pictures, left_out })
            },
        );
        self.files = files;
        done?;
        if self.pictures == 0 {
            let left_out = self.left_out.summary();
            let left_out = left_out.map_or_else(String::new, |summary| format!("; {summary}"));
            return Err(self
                .problem(format!("holds no readable picture{left_out}"))
                .into());
        }
        Ok(())
    }

    /// Classes are numbered as their first pictures come, which is in the order of their names.
    fn label(&mut self, class: Option<&str>) -> u32 {
        let name = match self.has_classes {
            true => class.unwrap_or_default(),
            false => "",
        };
        if self.classes.last().is_none_or(|last| last != name) {
            self.classes.push(name.to_owned());
        }
        (self.classes.len() - 1) as u32
    }

    fn check_strict(&self) -> Result<(), DataError> {
        match self.left_out.first_loss() {
            Some(loss) if self.strict => Err(self.problem(loss.to_string())),
            _ => Ok(()),
        }
    }

    fn problem(&self, problem: String) -> DataError {
        DataError::Folder {
            path: self.path.clone(),
            problem,
        }
    }
}

/// Whether a picture lies in a folder below the listed one. A folder without pictures is not a class.
fn has_class_folders(files: &[PictureFile]) -> bool {
    files
        .iter()
        .filter(|file| file.class().is_some())
        .any(begins_as_picture)
}

fn begins_as_picture(file: &PictureFile) -> bool {
    let mut head = Vec::new();
    let read = std::fs::File::open(file.path())
        .and_then(|file| file.take(HEAD_BYTES as u64).read_to_end(&mut head));
    read.is_ok() && kind(&head) != Kind::Unknown
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};

    use super::*;

    fn save(path: &Path, image: &RgbImage) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        image.save(path).unwrap();
    }

    fn reasons(left_out: &LeftOut) -> Vec<(&str, Reason)> {
        let files = left_out.files().iter();
        files
            .map(|file| (file.file.as_str(), file.reason))
            .collect()
    }

    #[test]
    fn classes_and_images_come_in_the_order_of_their_names() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        let exact = RgbImage::from_fn(4, 4, |x, y| Rgb([x as u8, y as u8, 200]));
        save(&path("dog/2.png"), &exact);
        save(
            &path("dog/10.PNG"),
            &RgbImage::from_pixel(8, 6, Rgb([10, 20, 30])),
        );
        save(
            &path("cat/2024/x.jpg"),
            &RgbImage::from_pixel(9, 9, Rgb([100, 100, 100])),
        );
        save(&path("beside.png"), &exact);
        std::fs::write(path("cat/.hidden.png"), b"no image").unwrap();
        std::fs::write(path("cat/notes.txt"), b"no image").unwrap();
        std::fs::write(path("readme.md"), b"no class").unwrap();
        std::fs::create_dir(path("ant")).unwrap();
        std::fs::write(path("ant/no-picture.txt"), b"no image").unwrap();
        std::fs::write(path("dog/cut.png"), b"\x89PNG\r\n\x1a\n").unwrap();
        let FolderSet {
            images: set,
            class_names,
            left_out,
        } = read(root.path(), 4).unwrap();
        assert_eq!(class_names, ["cat", "dog"]);
        assert_eq!(
            (set.shape(), set.labels(), set.classes()),
            ([3, 4, 4], [0, 1, 1].as_slice(), 2)
        );
        assert!(set.image(0).iter().all(|value| value.abs_diff(100) <= 3));
        assert_eq!(
            [set.image(1)[0], set.image(1)[16], set.image(1)[47]],
            [10, 20, 30]
        );
        let planes: Vec<u8> = (0..48)
            .map(|i| [i % 4, i / 4 % 4, 200][usize::from(i / 16)])
            .collect();
        assert_eq!(
            set.image(2),
            planes,
            "an image of the right size is taken as it is"
        );
        assert_eq!(
            reasons(&left_out),
            [
                ("cat/.hidden.png", Reason::Hidden),
                ("beside.png", Reason::WithoutClass),
                ("ant/no-picture.txt", Reason::NotAPicture),
                ("cat/notes.txt", Reason::NotAPicture),
                ("dog/cut.png", Reason::Unreadable),
                ("readme.md", Reason::NotAPicture),
            ]
        );
    }

    #[test]
    fn a_file_beside_the_caller_is_forgotten_too() {
        // Tests run in the folder of their crate.
        let mut folder = LabelledFolder::list(Path::new(".")).unwrap();
        let named = |folder: &LabelledFolder| {
            let mut files = folder.files().iter();
            files.any(|file| file.relative() == "Cargo.toml")
        };
        assert!(named(&folder));
        folder.forget(Path::new("Cargo.toml"));
        assert!(!named(&folder));
    }

    #[test]
    fn a_flat_folder_is_one_class() {
        let root = tempfile::tempdir().unwrap();
        let image = RgbImage::from_pixel(5, 5, Rgb([1, 2, 3]));
        save(&root.path().join("b.png"), &image);
        save(&root.path().join("a.png"), &image);
        std::fs::create_dir(root.path().join("notes")).unwrap();
        std::fs::write(root.path().join("notes/x.txt"), b"no image").unwrap();
        let read = read(root.path(), 2).unwrap();
        assert_eq!(
            (read.images.labels(), read.images.classes()),
            ([0, 0].as_slice(), 1)
        );
        assert!(read.class_names.is_empty());
        assert_eq!(
            reasons(&read.left_out),
            [("notes/x.txt", Reason::NotAPicture)]
        );
    }

    #[test]
    fn without_any_picture_what_was_found_is_named() {
        let root = tempfile::tempdir().unwrap();
        let fails = |message: &str| {
            let error = read(root.path(), 4).unwrap_err().to_string();
            assert!(error.contains(message), "{error} | {message}");
        };
        fails("holds no readable picture");
        std::fs::create_dir(root.path().join("a")).unwrap();
        std::fs::write(root.path().join("a/bad.png"), b"\x89PNG\r\n\x1a\nrubbish").unwrap();
        fails("1 file left out: 1 unreadable (a/bad.png: ");
        std::fs::write(root.path().join("a/b.webp"), b"RIFF").unwrap();
        fails("2 files left out: 2 unreadable (first a/b.webp: ");
        assert!(read(root.path(), 0).is_err() && read(&root.path().join("none"), 4).is_err());
    }

    #[test]
    fn strictly_the_first_loss_ends_the_work() {
        let root = tempfile::tempdir().unwrap();
        save(&root.path().join("a.png"), &RgbImage::new(5, 5));
        std::fs::write(root.path().join("notes.txt"), b"no image").unwrap();
        let squares = |strict: bool| {
            let mut folder = LabelledFolder::list(root.path()).unwrap().strict(strict);
            folder.squares::<DataError>(2, |_| Ok(()))
        };
        assert!(squares(true).is_ok(), "a text file is no loss");
        std::fs::write(root.path().join("b.jpg"), b"\xff\xd8\xff").unwrap();
        assert!(squares(false).is_ok());
        let error = squares(true).unwrap_err().to_string();
        assert!(error.contains("b.jpg"), "{error}");
    }

    #[test]
    fn a_huge_canvas_in_a_small_file_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/bomb.png");
        save(&path, &RgbImage::new(1, 1));
        let mut bytes = std::fs::read(&path).unwrap();
        // Width and height of the IHDR chunk; its checksum then no longer fits, which the decoder may notice first.
        bytes[16..24].copy_from_slice(&[0x00, 0x0f, 0x42, 0x40, 0x00, 0x0f, 0x42, 0x40]);
        std::fs::write(&path, bytes).unwrap();
        let error = read(root.path(), 4).unwrap_err().to_string();
        assert!(error.contains("bomb.png"), "{error}");
    }
}
