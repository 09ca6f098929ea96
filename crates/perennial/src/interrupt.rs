//! Ctrl-C: the first asks work to stop where it can be taken up again, the second ends the program at once.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::exit_status::InterruptedError;

static PRESSED: AtomicBool = AtomicBool::new(false);

/// Proof that the program listens to Ctrl-C; commands that never ask leave the default, which ends them at once.
#[derive(Clone, Copy, Debug)]
pub struct Interrupt(());

impl Interrupt {
    /// Begins to listen. Call it once.
    pub fn listen() -> anyhow::Result<Self> {
        ctrlc::set_handler(|| {
            if PRESSED.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
            eprintln!("\nstopping as soon as nothing is lost; press Ctrl-C again to stop at once");
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
