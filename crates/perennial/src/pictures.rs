//! Small pictures of the rows of an evaluation set, for the page of a certificate.

use std::path::{Component, Path, PathBuf};

use base64::prelude::{BASE64_STANDARD, Engine};
use perennial_core::read_at_most;
use perennial_data::ImageSet;
use perennial_data::pictures::MAX_FILE_BYTES;
use perennial_encode::{DecodeLimits, Picture, encode_png};
use perennial_formats::Payload;
use perennial_upgrade::report;

/// The longer side of a picture on the page, in pixels.
const SIDE: u32 = 96;
/// Keys of a payload that hold a picture as `data:` URI, or name a picture file.
const THUMBNAIL: &str = "thumbnail";
const FILE: &str = "file";

/// Where the pictures of some rows come from. They are decoded when they are asked for: a page shows a few of them only.
pub enum Pictures {
    /// Payloads, and the folder that file names in them are relative to.
    Payloads {
        folder: PathBuf,
        payloads: Vec<Source>,
    },
    /// The images that were embedded.
    Images(ImageSet),
}

/// What a payload says about the picture of its row.
pub enum Source {
    Uri(String),
    File(PathBuf),
    None,
}

impl Pictures {
    /// Those that the payloads of a file name; nothing if no payload names one.
    pub fn of_payloads(file: &Path, payloads: &[Payload]) -> Option<Self> {
        let text = |payload: &Payload, key: &str| Some(payload.get(key)?.as_str()?.to_owned());
        let source = |payload: &Payload| match text(payload, THUMBNAIL) {
            Some(uri) => Source::Uri(uri),
            None => match text(payload, FILE) {
                Some(name) => Source::File(name.into()),
                None => Source::None,
            },
        };
        let payloads: Vec<Source> = payloads.iter().map(source).collect();
        let folder = match file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let some = payloads
            .iter()
            .any(|source| !matches!(source, Source::None));
        some.then(|| Self::Payloads {
            folder: folder.to_owned(),
            payloads,
        })
    }

    /// The picture of a row as a base64 `data:` URI of at most 96 pixels a side; nothing where there is none that can be decoded.
    ///
    /// A page is passed on to others, and files of embeddings come from others: of the files that a payload may name, only those below the
    /// folder of its own file are read.
    fn uri(&self, row: usize) -> Option<String> {
        let bytes = match self {
            Self::Images(set) if row < set.len() => encode_png(set.image(row), set.shape()).ok()?,
            Self::Images(_) => return None,
            Self::Payloads { folder, payloads } => match payloads.get(row)? {
                Source::Uri(uri) => {
                    let (_, data) = uri.strip_prefix("data:image/")?.split_once(";base64,")?;
                    BASE64_STANDARD.decode(data).ok()?
                }
                Source::File(name) => read_at_most(below(folder, name)?, MAX_FILE_BYTES).ok()?,
                Source::None => return None,
            },
        };
        let picture = Picture::decode(&bytes, DecodeLimits::UNTRUSTED).ok()?;
        let jpeg = picture.thumbnail(SIDE).ok()?;
        Some(format!(
            "data:image/jpeg;base64,{}",
            BASE64_STANDARD.encode(jpeg)
        ))
    }
}

/// The path of a file below a folder, by a relative name and past all links.
fn below(folder: &Path, name: &Path) -> Option<PathBuf> {
    let plain = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    if !name.components().all(plain) {
        return None;
    }
    let folder = fs_err::canonicalize(folder).ok()?;
    let path = fs_err::canonicalize(folder.join(name)).ok()?;
    path.starts_with(&folder).then_some(path)
}

/// Pictures in the order of the rows of an evaluation set.
#[derive(Default)]
pub struct Ordered(Option<(Pictures, Option<Vec<usize>>)>);

impl Ordered {
    /// Those of the first side that has some; the rows of the second one stand in another order.
    pub fn first(one: Option<Pictures>, other: Option<Pictures>, order: Vec<usize>) -> Self {
        Self(
            one.map(|pictures| (pictures, None))
                .or(other.map(|pictures| (pictures, Some(order)))),
        )
    }

    fn uri(&self, row: usize) -> Option<String> {
        let (pictures, order) = self.0.as_ref()?;
        let row = match order {
            Some(order) => *order.get(row)?,
            None => row,
        };
        pictures.uri(row)
    }
}

/// Those of queries and of gallery items.
#[derive(Default)]
pub struct EvaluationPictures {
    pub queries: Ordered,
    pub items: Ordered,
}

impl report::Pictures for EvaluationPictures {
    fn query(&self, row: usize) -> Option<String> {
        self.queries.uri(row)
    }

    fn item(&self, row: usize) -> Option<String> {
        self.items.uri(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A grey picture of this many pixels a side, as a file's bytes.
    fn png(side: usize) -> Vec<u8> {
        encode_png(&vec![90; 3 * side * side], [3, side, side]).unwrap()
    }

    fn payload(key: &str, text: &str) -> Payload {
        [(key.to_owned(), json!(text))].into_iter().collect()
    }

    #[test]
    fn pictures_come_from_payloads_and_files_below_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("vectors");
        std::fs::create_dir_all(inside.join("cats")).unwrap();
        std::fs::write(inside.join("cats/a.png"), png(200)).unwrap();
        std::fs::write(folder.path().join("secret.png"), png(8)).unwrap();
        let uri = format!("data:image/png;base64,{}", BASE64_STANDARD.encode(png(300)));
        let absolute = folder.path().join("secret.png");
        let payloads = [
            payload(FILE, "cats/a.png"),
            payload(THUMBNAIL, &uri),
            payload(FILE, "../secret.png"),
            payload(FILE, absolute.to_str().unwrap()),
            payload(FILE, "cats/missing.png"),
            payload(THUMBNAIL, "https://example.org/x.png"),
            payload(THUMBNAIL, "data:image/png;base64,AAAA"),
            Payload::new(),
        ];
        let pictures = Pictures::of_payloads(&inside.join("q.jsonl"), &payloads).unwrap();
        for row in [0, 1] {
            let uri = pictures.uri(row).unwrap();
            let data = uri.strip_prefix("data:image/jpeg;base64,").unwrap();
            let bytes = BASE64_STANDARD.decode(data).unwrap();
            let picture = Picture::decode(&bytes, DecodeLimits::FILES).unwrap();
            assert_eq!((picture.width(), picture.height()), (SIDE, SIDE));
        }
        for row in 2..9 {
            assert_eq!(pictures.uri(row), None, "{row}");
        }
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(&absolute, inside.join("link.png")).unwrap();
            let linked = [payload(FILE, "link.png")];
            let pictures = Pictures::of_payloads(&inside.join("q.jsonl"), &linked).unwrap();
            assert_eq!(pictures.uri(0), None);
        }
        assert!(Pictures::of_payloads(&inside.join("q.jsonl"), &[Payload::new()]).is_none());
    }

    #[test]
    fn rows_of_the_second_side_keep_their_inputs() {
        let pixels: Vec<u8> = [[0u8; 48], [200; 48]].concat();
        let set = || ImageSet::new("x", [3, 4, 4], pixels.clone(), vec![0, 1], 2).unwrap();
        let own = Ordered::first(Some(Pictures::Images(set())), None, vec![1, 0]);
        let other = Ordered::first(None, Some(Pictures::Images(set())), vec![1, 0]);
        assert!(own.uri(0).is_some());
        assert_eq!(own.uri(0), other.uri(1));
        assert_ne!(own.uri(0), other.uri(0));
        assert_eq!(own.uri(2), None);
        assert_eq!(Ordered::default().uri(0), None);
    }
}
