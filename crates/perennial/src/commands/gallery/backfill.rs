//! `perennial gallery backfill`: items of older versions are embedded again by the live one.

mod action;
mod local;
mod pushing;
mod remote;
mod report;

use perennial_upgrade::backfill::{BackfillSettings, Order, OriginalsSource, StopRule};

use self::action::Action;
use crate::arguments::GlobalArguments;
use crate::exit_status::{ExitStatus, usage};
use crate::gallery_folder::GalleryArguments;
use crate::interrupt::Interrupt;
use crate::service_client::ServiceClient;
use crate::terminal::Terminal;

#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "A service that has the gallery open does the work, as one does that --server names; without one, this command does it."
)]
pub struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    start: StartArguments,
}

#[derive(Debug, clap::Args)]
struct StartArguments {
    /// Folder of the pictures or texts, as it was added; an address such as https://host/{id} or https://host/{payload.file}; or payload:KEY for
    /// texts that the items hold
    #[arg(long, value_name = "DIR|URL|payload:KEY")]
    originals: Option<String>,
    /// With a running service: let it read the folder, which lies on its machine, instead of sending the originals from here
    #[arg(long)]
    in_service: bool,
    /// The most items per second, at least 0.001 [default: no limit]
    #[arg(long, value_name = "ITEMS")]
    rate: Option<f64>,
    /// Which items come first: retrieved (what searches find most often, then what is served worst), worst-served or id. Searches are
    /// counted by a running service; without one, retrieved begins with the spaces of the smallest certified margin
    #[arg(long, default_value = "retrieved", value_parser = parse_order)]
    order: Order,
    /// Stop after so many items [default: with the last one]
    #[arg(long, value_name = "ITEMS")]
    limit: Option<u64>,
    /// Stop when this share of the gallery is embedded by the live version, a fraction [default: at 1]
    #[arg(long, value_name = "SHARE")]
    stop_share: Option<f64>,
    /// Stop after so many seconds of work [default: never]
    #[arg(long, value_name = "SECONDS")]
    stop_seconds: Option<f64>,
    /// Stop when the quality that the certificates let expect is at least this, a fraction [default: never]
    #[arg(long, value_name = "QUALITY")]
    stop_quality: Option<f64>,
    /// Try items again that failed before
    #[arg(long)]
    retry: bool,
}

fn parse_order(text: &str) -> Result<Order, String> {
    match text {
        "retrieved" => Ok(Order::Retrieved),
        "worst-served" => Ok(Order::WorstServed),
        "id" => Ok(Order::Id),
        _ => Err("known are retrieved, worst-served and id".to_owned()),
    }
}

impl StartArguments {
    fn source(&self) -> anyhow::Result<OriginalsSource> {
        let originals = self.originals.as_deref().ok_or_else(|| {
            usage(
                "--originals is missing: pass the folder of the pictures or texts, an address such as https://host/{id}, or payload:KEY; \
                 `perennial gallery backfill status` shows how far an earlier one is",
            )
        })?;
        Ok(OriginalsSource::of_argument(originals))
    }

    fn settings(&self, originals: OriginalsSource) -> anyhow::Result<BackfillSettings> {
        let settings = BackfillSettings {
            originals,
            order: self.order,
            items_per_second: self.rate,
            stop: StopRule {
                share: self.stop_share,
                items: self.limit,
                seconds: self.stop_seconds,
                quality: self.stop_quality,
            },
        };
        settings.check().map_err(|problem| {
            // The keys of JSON, by the names of the options.
            let options = [
                ("items_per_second", "--rate"),
                ("stop.share", "--stop-share"),
                ("stop.items", "--limit"),
                ("stop.seconds", "--stop-seconds"),
                ("stop.quality", "--stop-quality"),
            ];
            let named = options
                .iter()
                .find_map(|(key, option)| Some(format!("{option}{}", problem.strip_prefix(key)?)));
            usage(named.unwrap_or(problem))
        })?;
        Ok(settings)
    }
}

pub fn run(
    arguments: &Arguments,
    gallery: &GalleryArguments,
    client: Option<&ServiceClient>,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    let start = &arguments.start;
    let interrupt = Interrupt::listen()?;
    let report = match (client, arguments.action) {
        (Some(client), Some(action)) => remote::act(client, action)?,
        (Some(client), None) => match start.source()? {
            OriginalsSource::Folder(folder) if !start.in_service => {
                let settings = start.settings(OriginalsSource::Pushed)?;
                pushing::run(client, &folder, &settings, start.retry, interrupt, terminal)?
            }
            source => {
                let settings = start.settings(source)?;
                remote::run(client, settings, start.retry, interrupt, terminal)?
            }
        },
        (None, Some(Action::Resume)) => local::resume(gallery, global, interrupt, terminal)?,
        (None, Some(Action::Status)) => local::status(gallery, global)?,
        (None, Some(Action::Pause)) => local::pause(gallery, global)?,
        (None, Some(Action::Cancel)) => local::cancel(gallery, global)?,
        (None, None) => {
            if start.in_service {
                return Err(usage(format!(
                    "--in-service: no service has the gallery at {} open, so this command reads the originals itself; remove the option, or name a \
                     service elsewhere with --server URL",
                    gallery.gallery.display()
                )));
            }
            let settings = start.settings(start.source()?)?;
            local::run(settings, start.retry, gallery, global, interrupt, terminal)?
        }
    };
    terminal.result(&report, |_| report.text())?;
    // A backfill that gave up by itself has not done what was asked for.
    Ok(match (arguments.action, report.gave_up()) {
        (None | Some(Action::Resume), true) => ExitStatus::Failed,
        _ => ExitStatus::Done,
    })
}
