//! Completeness of a published set: files may be missing, and a file may hold a part of the official records.

use std::fmt;

/// A set's images beside the number that was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completeness {
    /// Images found.
    pub images: usize,
    /// Images of the official split.
    pub official_images: usize,
    /// Official files or folders that are not there, relative to the set's folder.
    pub missing: Vec<String>,
}

impl Completeness {
    /// Whether images are missing.
    pub fn is_partial(&self) -> bool {
        self.images < self.official_images
    }
}

impl fmt::Display for Completeness {
    /// `10,000 of 50,000 images; data_batch_2.bin and data_batch_3.bin missing`, with at most a few names.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 5;
        let (images, official) = (grouped(self.images), grouped(self.official_images));
        write!(f, "{images} of {official} images")?;
        if self.missing.is_empty() {
            return Ok(());
        }
        let shown = &self.missing[..self.missing.len().min(SHOWN)];
        write!(f, "; missing: {}", shown.join(", "))?;
        match self.missing.len() - shown.len() {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// A number with commas between thousands.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Images of a published split; `None` for sets without a published number.
pub fn official_images(set: &str, split: &str) -> Option<usize> {
    Some(match (set, split) {
        ("cifar10" | "cifar100", "train") => 50_000,
        ("cifar10" | "cifar100", "test") => 10_000,
        ("cifar10", "batch1" | "batch2" | "batch3" | "batch4" | "batch5") => 10_000,
        ("tinyimagenet" | "tinyimagenet32", "train") => 100_000,
        ("tinyimagenet" | "tinyimagenet32", "val") => 10_000,
        ("cub200", "train") => 5_994,
        ("cub200", "test") => 5_794,
        ("cub200", "all") => 11_788,
        ("celeba", "train") => 162_770,
        ("celeba", "val") => 19_867,
        ("celeba", "test") => 19_962,
        ("celeba", "all") => 202_599,
        ("fashion-mnist", "train") => 60_000,
        ("fashion-mnist", "test") => 10_000,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_set_is_named_with_what_is_missing() {
        let mut part = Completeness {
            images: 999,
            official_images: 1_234_567,
            missing: vec![],
        };
        assert_eq!(part.to_string(), "999 of 1,234,567 images");
        part.missing = (1..=7).map(|number| format!("{number}.bin")).collect();
        assert_eq!(
            part.to_string(),
            "999 of 1,234,567 images; missing: 1.bin, 2.bin, 3.bin, 4.bin, 5.bin and 2 more"
        );
        assert!(part.is_partial());
        part.images = part.official_images;
        assert!(!part.is_partial());
    }
}
