//! The sets of `perennial data fetch`, and what is said about one that is there.

use std::path::PathBuf;

use clap::ValueEnum;
use perennial_data::catalogue::TINY_IMAGENET_FOLDER;
use serde::Serialize;

use crate::arguments::GlobalArguments;
use crate::exit_status::{ExitStatus, usage};
use crate::terminal::Terminal;

/// Where Tiny-ImageNet is published, without a checksum.
const TINY_IMAGENET_URL: &str = "http://cs231n.stanford.edu/tiny-imagenet-200.zip";

/// The sets of `fetch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FetchedSet {
    /// 162 MiB to download
    Cifar10,
    /// 161 MiB to download
    Cifar100,
    /// Published without a checksum; prints how to download it by hand
    #[value(name = "tinyimagenet")]
    TinyImageNet,
}

/// Result of `fetch`.
#[derive(Serialize)]
pub struct Fetched {
    pub set: &'static str,
    pub folder: PathBuf,
    pub already_present: bool,
}

/// Tiny-ImageNet comes without a checksum and over plain HTTP: the archive cannot be verified, so the user has to download it.
pub fn tiny_imagenet(global: &GlobalArguments, terminal: &Terminal) -> anyhow::Result<ExitStatus> {
    let folder = global.data.join(TINY_IMAGENET_FOLDER);
    if !folder.join("wnids.txt").is_file() {
        return Err(usage(format!(
            "Tiny-ImageNet is published without a checksum, so a download cannot be verified. Download it yourself: \
             unzip {TINY_IMAGENET_URL} (about 240 MB) in {}, so that {} exists; the set is then called tinyimagenet, and \
             `perennial data convert tinyimagenet` makes the files of tinyimagenet32",
            global.data.display(),
            folder.join("wnids.txt").display()
        )));
    }
    let answer = Fetched {
        set: "tinyimagenet",
        folder,
        already_present: true,
    };
    terminal.result(&answer, |_| {
        format!(
            "tinyimagenet is already present: {}",
            answer.folder.display()
        )
    })?;
    Ok(ExitStatus::Done)
}
