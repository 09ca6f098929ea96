//! In place of `tls` in a build without that feature: there is never a [`Tls`].

use std::time::SystemTime;

use crate::config::{TlsFiles, without_tls};
use crate::error::ServeError;

#[derive(Clone)]
pub(crate) enum Tls {}

pub(crate) enum Loaded {}

impl Tls {
    /// # Errors
    /// Always [`ServeError::Config`].
    pub(crate) fn load(_: TlsFiles) -> Result<(Self, SystemTime), ServeError> {
        Err(without_tls())
    }

    pub(crate) fn read_again(&self) -> Result<Loaded, ServeError> {
        match *self {}
    }

    pub(crate) fn replace(&self, _: Loaded) {
        match *self {}
    }
}

impl Loaded {
    pub(crate) fn expires(&self) -> SystemTime {
        match *self {}
    }
}
