//! Where a new bridge goes.

use std::path::Path;

use perennial_bridge::Bridge;
use perennial_upgrade::BridgeRegistry;

use crate::arguments::GlobalArguments;

/// Writes a bridge to a folder, or to the registry under the next number. Returns the folder or the name there.
pub fn keep(
    bridge: &Bridge,
    folder: Option<&Path>,
    global: &GlobalArguments,
) -> anyhow::Result<String> {
    match folder {
        Some(folder) => {
            bridge.write(folder)?;
            Ok(folder.display().to_string())
        }
        None => Ok(BridgeRegistry::of(&global.create_registry()?).publish(bridge)?),
    }
}
