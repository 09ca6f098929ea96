//! The official archives: their names, checksums and files.

/// An archive that [`fetch`](super::fetch()) can download.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatasetArchive {
    /// CIFAR-10, 162 MiB to download, 176 MiB unpacked.
    Cifar10,
    /// CIFAR-100, 161 MiB to download, 176 MiB unpacked.
    Cifar100,
}

impl DatasetArchive {
    /// Every archive.
    pub const ALL: [Self; 2] = [Self::Cifar10, Self::Cifar100];

    /// Name of the data set, the one that [`open`](crate::open) uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cifar10 => "cifar10",
            Self::Cifar100 => "cifar100",
        }
    }

    /// The archive of a data set.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|archive| archive.name() == name)
    }

    /// What to download and what to expect in it.
    pub fn spec(self) -> ArchiveSpec {
        const MIB: u64 = 1 << 20;
        let batch = |name: &str| ArchiveFile {
            name: name.into(),
            size: FileSize::Exactly(30_730_000),
        };
        let text = |name: &str| ArchiveFile {
            name: name.into(),
            size: FileSize::AtMost(MIB),
        };
        match self {
            Self::Cifar10 => ArchiveSpec {
                archive: "cifar-10-binary.tar.gz".into(),
                md5: "c32a1d4ab5d03f1284b67883e8d87530".into(),
                max_archive_bytes: 256 * MIB,
                folder: "cifar-10-batches-bin".into(),
                files: (1..=5)
                    .map(|number| batch(&format!("data_batch_{number}.bin")))
                    .chain([
                        batch("test_batch.bin"),
                        text("batches.meta.txt"),
                        text("readme.html"),
                    ])
                    .collect(),
            },
            Self::Cifar100 => ArchiveSpec {
                archive: "cifar-100-binary.tar.gz".into(),
                md5: "03b5dce01913d631647c71ecec9e9cb8".into(),
                max_archive_bytes: 256 * MIB,
                folder: "cifar-100-binary".into(),
                files: vec![
                    ArchiveFile {
                        name: "train.bin".into(),
                        size: FileSize::Exactly(153_700_000),
                    },
                    ArchiveFile {
                        name: "test.bin".into(),
                        size: FileSize::Exactly(30_740_000),
                    },
                    text("coarse_label_names.txt"),
                    text("fine_label_names.txt"),
                ],
            },
        }
    }
}

/// A gzip-compressed tar archive to download: its name, its checksum and the files in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveSpec {
    /// File name below the base URL.
    pub archive: String,
    /// MD5 of the archive in lower-case hexadecimal.
    pub md5: String,
    /// Longest download accepted, in bytes.
    pub max_archive_bytes: u64,
    /// The one folder inside of the archive; its files go to a folder of this name in the destination.
    pub folder: String,
    /// The files to take from that folder; anything else in the archive is left there.
    pub files: Vec<ArchiveFile>,
}

/// A file inside of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveFile {
    /// Name without folders.
    pub name: String,
    /// Its size.
    pub size: FileSize,
}

/// How large a file of an archive is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSize {
    /// A data file: it must be in the archive, in this size.
    Exactly(u64),
    /// A text that comes with the data: up to this size, and not missed where it is absent.
    AtMost(u64),
}

impl FileSize {
    pub(super) fn allows(self, bytes: u64) -> bool {
        match self {
            Self::Exactly(size) => bytes == size,
            Self::AtMost(limit) => bytes <= limit,
        }
    }

    pub(super) fn limit(self) -> u64 {
        match self {
            Self::Exactly(bytes) | Self::AtMost(bytes) => bytes,
        }
    }
}
