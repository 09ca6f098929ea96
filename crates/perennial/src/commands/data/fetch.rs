//! `perennial data fetch`: the sets that are published with a checksum.

use perennial_data::DatasetArchive;

use super::fetched_set::{Fetched, FetchedSet, tiny_imagenet};
use crate::arguments::GlobalArguments;
use crate::exit_status::ExitStatus;
use crate::progress::CountedProgress;
use crate::service_client::trust;
use crate::terminal::Terminal;

pub fn run(
    set: FetchedSet,
    base_url: Option<&str>,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    let archive = match set {
        FetchedSet::Cifar10 => DatasetArchive::Cifar10,
        FetchedSet::Cifar100 => DatasetArchive::Cifar100,
        FetchedSet::TinyImageNet => return tiny_imagenet(global, terminal),
    };
    let progress = CountedProgress::bytes(terminal, format!("fetching {}", archive.name()));
    let fetched = perennial_data::fetch(
        archive,
        &global.data,
        base_url,
        Some(trust::of_process()?),
        &mut |state| {
            progress.set(state.received_bytes, state.total_bytes);
        },
    )?;
    if !fetched.already_present {
        progress.finish();
    }
    let answer = Fetched {
        set: archive.name(),
        folder: fetched.folder,
        already_present: fetched.already_present,
    };
    terminal.result(&answer, |_| {
        let how = if answer.already_present {
            "is already present"
        } else {
            "was downloaded"
        };
        format!("{} {how}: {}", answer.set, answer.folder.display())
    })?;
    Ok(ExitStatus::Done)
}
