//! Ctrl-C: the first one stops the work at the next point from which it can be resumed, the second ends the program immediately.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::exit_status::InterruptedError;

static PRESSED: AtomicBool = AtomicBool::new(false);

/// Proof that the handler for Ctrl-C is installed. Commands without it keep the default, which ends them immediately.
#[derive(Clone, Copy, Debug)]
pub struct Interrupt(());

impl Interrupt {
    /// Installs the handler. Call it once.
    pub fn listen() -> anyhow::Result<Self> {
        ctrlc::set_handler(|| {
            if PRESSED.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
            eprintln!(
                "\nstopping after the next checkpoint or batch; press Ctrl-C again to stop immediately"
            );
        })?;
        Ok(Self(()))
    }

    /// Whether Ctrl-C was pressed.
    pub fn pressed(self) -> bool {
        PRESSED.load(Ordering::Relaxed)
    }

    /// Ends work that needs no checkpoint if Ctrl-C was pressed.
    pub fn check(self) -> anyhow::Result<()> {
        if self.pressed() {
            return Err(InterruptedError.into());
        }
        Ok(())
    }
}
