//! Files that are not used, and why.

use std::collections::BTreeMap;
use std::fmt;

/// Why a file is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It should be a picture and cannot be used: damaged, cut off, no permission, a broken link.
    Unreadable,
    /// A picture in a format that is not decoded.
    UnsupportedFormat,
    /// More bytes, pixels or memory than is allowed.
    TooLarge,
    /// A name that cannot be an id: not UTF-8, with control characters, too long.
    UnusableName,
    /// A picture beside the class folders, where every image must have a class.
    WithoutClass,
    /// Not a picture.
    NotAPicture,
    /// Its name begins with a dot, or a file manager keeps it for itself.
    Hidden,
    /// A link to a folder that is read already.
    RepeatedFolder,
}

impl Reason {
    /// All of them, gravest first.
    pub const ALL: [Self; 8] = [
        Self::Unreadable,
        Self::UnsupportedFormat,
        Self::TooLarge,
        Self::UnusableName,
        Self::WithoutClass,
        Self::NotAPicture,
        Self::Hidden,
        Self::RepeatedFolder,
    ];

    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::UnsupportedFormat => "unsupported_format",
            Self::TooLarge => "too_large",
            Self::UnusableName => "unusable_name",
            Self::WithoutClass => "without_class",
            Self::NotAPicture => "not_a_picture",
            Self::Hidden => "hidden",
            Self::RepeatedFolder => "repeated_folder",
        }
    }

    /// The reason of a [`name`](Self::name).
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }

    /// The words for people, after a number.
    pub fn words(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::UnsupportedFormat => "of an unsupported format",
            Self::TooLarge => "too large",
            Self::UnusableName => "with a name that cannot be an id",
            Self::WithoutClass => "without a class folder",
            Self::NotAPicture => "not pictures",
            Self::Hidden => "hidden",
            Self::RepeatedFolder => "links to folders already read",
        }
    }

    /// Whether the file should have been a picture.
    pub fn is_loss(self) -> bool {
        !matches!(
            self,
            Self::NotAPicture | Self::Hidden | Self::RepeatedFolder
        )
    }
}

/// One file that is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOutFile {
    /// Its path below the folder, with `/` between the parts; bytes that are not UTF-8 are replaced.
    pub file: String,
    /// Why.
    pub reason: Reason,
    /// The problem and the remedy.
    pub problem: String,
}

impl fmt::Display for LeftOutFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An untrusted name must not send control sequences to the terminal.
        for character in self.file.chars() {
            match character.is_control() {
                true => write!(f, "{}", character.escape_default())?,
                false => write!(f, "{character}")?,
            }
        }
        write!(f, ": {}", self.problem)
    }
}

/// All files that are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftOut(Vec<LeftOutFile>);

impl LeftOut {
    /// Counts one more.
    pub fn add(&mut self, file: LeftOutFile) {
        self.0.push(file);
    }

    /// Takes out what is said of one file.
    pub fn forget(&mut self, file: &str) {
        self.0.retain(|left_out| left_out.file != file);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is left out.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each of them, in the order in which they were found.
    pub fn files(&self) -> &[LeftOutFile] {
        &self.0
    }

    /// How many there are of each reason that occurs.
    pub fn counts(&self) -> BTreeMap<Reason, usize> {
        let mut counts = BTreeMap::new();
        for file in &self.0 {
            *counts.entry(file.reason).or_default() += 1;
        }
        counts
    }

    /// The first picture that is missing, if any.
    pub fn first_loss(&self) -> Option<&LeftOutFile> {
        self.0.iter().find(|file| file.reason.is_loss())
    }

    /// One line: `3 files left out: 2 unreadable (first a.jpg: ...), 1 hidden`; `None` where there is nothing to say.
    pub fn summary(&self) -> Option<String> {
        let count = match self.len() {
            0 => return None,
            1 => "1 file".to_owned(),
            more => format!("{more} files"),
        };
        let parts: Vec<String> = self
            .counts()
            .into_iter()
            .map(|(reason, count)| {
                let first = self.0.iter().find(|file| file.reason == reason);
                match first.filter(|file| file.reason.is_loss()) {
                    Some(first) if count > 1 => {
                        format!("{count} {} (first {first})", reason.words())
                    }
                    Some(first) => format!("{count} {} ({first})", reason.words()),
                    None => format!("{count} {}", reason.words()),
                }
            })
            .collect();
        Some(format!("{count} left out: {}", parts.join(", ")))
    }
}

impl Extend<LeftOutFile> for LeftOut {
    fn extend<T: IntoIterator<Item = LeftOutFile>>(&mut self, files: T) {
        self.0.extend(files);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_counts_by_reason_and_names_the_first_loss() {
        let mut left_out = LeftOut::default();
        assert_eq!(left_out.summary(), None);
        for (file, reason) in [
            (".DS_Store", Reason::Hidden),
            ("a\u{1b}.jpg", Reason::Unreadable),
            ("b.jpg", Reason::Unreadable),
        ] {
            left_out.add(LeftOutFile {
                file: file.to_owned(),
                reason,
                problem: "is cut off".to_owned(),
            });
        }
        assert_eq!(
            left_out.summary().unwrap(),
            "3 files left out: 2 unreadable (first a\\u{1b}.jpg: is cut off), 1 hidden"
        );
        assert_eq!(left_out.counts()[&Reason::Unreadable], 2);
        assert_eq!(left_out.first_loss().unwrap().file, "a\u{1b}.jpg");
    }
}
