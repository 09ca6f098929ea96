//! `perennial bridge list` and `show`.

use perennial_bridge::Bridge;
use perennial_core::SpaceRef;
use perennial_upgrade::BridgeRegistry;
use serde::Serialize;

use super::apply::find;
use crate::arguments::GlobalArguments;
use crate::exit_status::ExitStatus;
use crate::terminal::Terminal;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Folder of the bridge, or its name in the registry
    bridge: String,
}

#[derive(Serialize)]
struct Entry {
    name: String,
    from: SpaceRef,
    to: SpaceRef,
    kind: String,
    pairs: u64,
    sha256: String,
}

impl Entry {
    fn of(name: &str, bridge: &Bridge) -> Self {
        Self {
            name: name.to_owned(),
            from: bridge.from().clone(),
            to: bridge.to().clone(),
            kind: bridge.describe(),
            pairs: bridge.fit_record().pairs as u64,
            sha256: bridge.sha256(),
        }
    }
}

pub fn list(global: &GlobalArguments, terminal: &Terminal) -> anyhow::Result<ExitStatus> {
    #[derive(Serialize)]
    struct Answer {
        bridges: Vec<Entry>,
    }
    let registry = BridgeRegistry::of(&global.open_registry()?);
    let mut bridges = Vec::new();
    for name in registry.names()? {
        bridges.push(Entry::of(&name, &registry.get(&name)?));
    }
    let answer = Answer { bridges };
    terminal.result(&answer, |_| {
        if answer.bridges.is_empty() {
            return "no bridges yet; fit one with `perennial bridge fit`\n".to_owned();
        }
        let line = |entry: &Entry| {
            format!(
                "{}  {:<28} {} -> {}, {} pairs\n",
                entry.name, entry.kind, entry.from, entry.to, entry.pairs
            )
        };
        answer.bridges.iter().map(line).collect()
    })?;
    Ok(ExitStatus::Done)
}

pub fn run(
    arguments: &Arguments,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    #[derive(Serialize)]
    struct Answer<'a> {
        #[serde(flatten)]
        entry: Entry,
        fit: &'a perennial_bridge::FitRecord,
        /// Whether an evaluation on inputs of the fit would be noticed.
        records_inputs: bool,
    }
    let bridge = find(&arguments.bridge, global)?;
    let answer = Answer {
        entry: Entry::of(&arguments.bridge, &bridge),
        fit: bridge.fit_record(),
        records_inputs: bridge.fit_inputs().is_some(),
    };
    terminal.result(&answer, |_| {
        let Answer { entry, fit, .. } = &answer;
        let mut text = format!(
            "{}: {}\nfrom    {} ({} dimensions)\nto      {} ({} dimensions)\npairs   {}\nsha256  {}\n",
            entry.name, entry.kind, entry.from, entry.from.dim, entry.to, entry.to.dim, entry.pairs, entry.sha256
        );
        if !answer.records_inputs {
            text.push_str(
                "inputs  not recorded: certificates cannot tell whether fit and evaluation overlap\n",
            );
        }
        if let Some(weight) = fit.dual_weight {
            text.push_str(&format!("weight of dual queries  {weight}\n"));
        }
        for trial in &fit.trials {
            text.push_str(&format!("tried   {:<28}", trial.name));
            for (measure, value) in &trial.values {
                text.push_str(&format!("  {measure} {value:.4}"));
            }
            text.push('\n');
        }
        for warning in &fit.warnings {
            text.push_str(&format!("warning: {warning}\n"));
        }
        text
    })?;
    Ok(ExitStatus::Done)
}
