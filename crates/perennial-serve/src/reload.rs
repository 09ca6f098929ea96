//! New keys and TLS certificates for a service that runs, and a look at what its registry certifies by now.

use std::sync::{Arc, Weak};
use std::time::SystemTime;

use time::OffsetDateTime;
use time::macros::format_description;

use crate::error::ServeError;
use crate::keys::{Keys, Scope};
use crate::service::Service;
use crate::tls::Tls;

/// Replaces the keys and the certificate of a running service. Connections stay open: each request is checked against the keys
/// of its moment, each new connection gets the certificate of its moment.
#[derive(Clone)]
pub struct Reloader {
    service: Weak<Service>,
    tls: Option<Tls>,
}

/// What a service uses after a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reloaded {
    /// Keys that may read.
    pub read_keys: usize,
    /// Keys that may write.
    pub write_keys: usize,
    /// When the certificate expires; `None` without TLS.
    pub certificate_expires: Option<SystemTime>,
}

impl Reloader {
    pub(crate) fn new(service: &Arc<Service>, tls: Option<Tls>) -> Self {
        Self {
            service: Arc::downgrade(service),
            tls,
        }
    }

    /// Takes keys from `read_keys` and reads the certificate files again. Only if all of that can be used, all of it is; otherwise
    /// the keys and the certificate in use stay. Either way the outcome is logged and counted. Bridges and certificates of the registry are looked
    /// at in any case, and what is not searched any more is logged. Blocks.
    ///
    /// # Errors
    /// What is wrong with the new keys or files, by name; [`ServeError::Keys`] for no key where there were keys, since that would
    /// open the service.
    pub fn reload(
        &self,
        read_keys: impl FnOnce() -> Result<Keys, ServeError>,
    ) -> Result<Option<Reloaded>, ServeError> {
        let Some(service) = self.service.upgrade() else {
            // The service has ended meanwhile.
            return Ok(None);
        };
        // Whatever becomes of the keys: a bridge or a certificate that was taken away must not go on to count.
        service.gallery.certification.look_again();
        service.planning.keep_encoders(false);
        service.planning.log_left_out();
        let reloaded = self.replace(&service, read_keys);
        service.telemetry.reload(reloaded.is_ok());
        match &reloaded {
            Ok(reloaded) => tracing::info!(
                read_keys = reloaded.read_keys,
                write_keys = reloaded.write_keys,
                certificate_expires = reloaded.certificate_expires.map(rfc3339),
                "keys and certificate reloaded"
            ),
            Err(error) => tracing::error!(
                %error,
                "nothing was reloaded; the previous keys and certificate stay in use"
            ),
        }
        reloaded.map(Some)
    }

    fn replace(
        &self,
        service: &Service,
        read_keys: impl FnOnce() -> Result<Keys, ServeError>,
    ) -> Result<Reloaded, ServeError> {
        let keys = read_keys()?;
        if keys.is_empty() && !service.transport.keys.load().is_empty() {
            return Err(ServeError::Keys {
                origin: "the new keys".to_owned(),
                problem: "no key is given, which would open the service to everybody".to_owned(),
            });
        }
        let tls = match &self.tls {
            Some(tls) => Some((tls.read_again()?, tls)),
            None => None,
        };
        let reloaded = Reloaded {
            read_keys: keys.count(Scope::Read),
            write_keys: keys.count(Scope::Write),
            certificate_expires: tls.as_ref().map(|(loaded, _)| loaded.expires()),
        };
        // From here on, nothing can fail.
        service.transport.keys.store(Arc::new(keys));
        if let Some((loaded, tls)) = tls {
            service.telemetry.certificate(loaded.expires());
            tls.replace(loaded);
        }
        Ok(reloaded)
    }
}

fn rfc3339(time: SystemTime) -> String {
    let form = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    OffsetDateTime::from(time).format(form).unwrap_or_default()
}
