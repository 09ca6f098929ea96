//! In place of `fetch` in a build without downloads.

use clap::ValueEnum;

use super::fetched_set::{FetchedSet, tiny_imagenet};
use crate::arguments::GlobalArguments;
use crate::exit_status::{ExitStatus, usage};
use crate::terminal::Terminal;

pub fn run(
    set: FetchedSet,
    _: Option<&str>,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    if set == FetchedSet::TinyImageNet {
        return tiny_imagenet(global, terminal);
    }
    let value = set.to_possible_value();
    let name = value.as_ref().map_or("", |value| value.get_name());
    Err(usage(format!(
        "{name} cannot be downloaded by this build; build with --features fetch, or unpack the binary version from \
         https://www.cs.toronto.edu/~kriz/cifar.html in {}",
        global.data.display()
    )))
}
