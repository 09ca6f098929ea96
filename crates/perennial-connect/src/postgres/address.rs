//! Where a database is. The password stays in here.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::Host;

use crate::error::ConnectError;

/// How long a server may take to answer the first time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long sent bytes may stay unacknowledged.
const NETWORK_TIMEOUT: Duration = Duration::from_secs(60);

/// Options of other clients.
const UNKNOWN: [(&str, &str); 7] = [
    ("sslrootcert", "name the file with the CA in SSL_CERT_FILE"),
    ("sslcert", "certificates of clients are not supported"),
    ("sslkey", "certificates of clients are not supported"),
    (
        "passfile",
        "pass the password by PGPASSWORD, or the whole URL by --url-file",
    ),
    ("service", "write host, port and database into the URL"),
    (
        "pgbouncer",
        "leave it out, and connect to the server itself or to a pooler in session mode",
    ),
    ("schema", "leave it out, and name the table as SCHEMA.TABLE"),
];

/// A database's address: `postgres://USER@HOST:PORT/DATABASE?sslmode=require`.
///
/// Neither [`Debug`] nor [`Display`](fmt::Display) shows the user or the password.
#[derive(Clone)]
pub(crate) struct PostgresAddress {
    config: Config,
    shown: String,
}

impl PostgresAddress {
    /// Reads a URL that may hold a password, as it stands in a file or in the environment.
    ///
    /// # Errors
    /// [`ConnectError::Usage`], which does not repeat the text.
    pub(crate) fn new(url: &str) -> Result<Self, ConnectError> {
        let problem = || {
            ConnectError::Usage(
                "the database's URL cannot be read; write postgres://USER@HOST:PORT/DATABASE, with special characters of a password \
                 percent-encoded (the URL is not shown, since it may hold a password)"
                    .to_owned(),
            )
        };
        let url = url.trim();
        if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
            return Err(problem());
        }
        if let Some((option, instead)) = unknown_option(url) {
            return Err(ConnectError::Usage(format!(
                "the database's URL has the option {option}, which is not known here; {instead}"
            )));
        }
        let mut config = Config::from_str(&verified(url)).map_err(|_| problem())?;
        let mut places = Vec::new();
        for (index, host) in config.get_hosts().iter().enumerate() {
            let ports = config.get_ports();
            let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
            match host {
                // A password with an unencoded @ would end up in the name of the host, which is shown.
                Host::Tcp(name) if !name.chars().all(is_of_host) => return Err(problem()),
                Host::Tcp(name) => places.push(format!("{name}:{port}")),
                #[cfg(unix)]
                Host::Unix(path) => places.push(format!("{}:{port}", path.display())),
            }
        }
        if places.is_empty() {
            return Err(problem());
        }
        let database = config.get_dbname().or(config.get_user());
        let shown = format!("{}/{}", places.join(","), database.unwrap_or_default());
        config.application_name("perennial");
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        config.keepalives_idle(NETWORK_TIMEOUT / 2);
        config.tcp_user_timeout(NETWORK_TIMEOUT);
        Ok(Self { config, shown })
    }

    /// Reads a URL of the command line, which every user of the machine can see in the list of processes.
    ///
    /// # Errors
    /// Those of [`new`](Self::new), and a URL with a password.
    pub(crate) fn without_password(url: &str) -> Result<Self, ConnectError> {
        let address = Self::new(url)?;
        if address.config.get_password().is_some() {
            return Err(ConnectError::Usage(
                "the URL on the command line holds a password, which every user of this machine can read in the list of processes; \
                 pass it by PGPASSWORD, or the whole URL by PERENNIAL_DATABASE_URL or --url-file, and change that password"
                    .to_owned(),
            ));
        }
        Ok(address)
    }

    /// Takes a password for an address that has none.
    pub(crate) fn or_password(mut self, password: Option<String>) -> Self {
        if let Some(password) = password
            && self.config.get_password().is_none()
        {
            self.config.password(password);
        }
        self
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }
}

/// The URL with the modes of TLS that this client knows. A certificate is always verified here, so libpq's stricter modes are the same as `require`.
fn verified(url: &str) -> String {
    let Some((place, options)) = url.split_once('?') else {
        return url.to_owned();
    };
    let options: Vec<&str> = options
        .split('&')
        .map(|option| match option {
            "sslmode=verify-full" | "sslmode=verify-ca" => "sslmode=require",
            other => other,
        })
        .collect();
    format!("{place}?{}", options.join("&"))
}

/// An option that other clients take and this one does not, and what to do instead. Anything else that is unknown may be a part of a password, and is
/// not shown.
fn unknown_option(url: &str) -> Option<(&'static str, &'static str)> {
    let (_, options) = url.split_once('?')?;
    let names: Vec<&str> = options
        .split('&')
        .filter_map(|option| Some(option.split_once('=')?.0))
        .collect();
    UNKNOWN
        .into_iter()
        .find(|(option, _)| names.contains(option))
}

/// What names and numbers of hosts consist of.
fn is_of_host(character: char) -> bool {
    character.is_ascii_alphanumeric() || "._-:%".contains(character)
}

impl fmt::Display for PostgresAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for PostgresAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({})", self.shown)
    }
}

#[cfg(test)]
mod tests {
    use tokio_postgres::config::SslMode;

    use super::*;

    #[test]
    fn the_password_is_never_shown() {
        let address =
            PostgresAddress::new("postgres://ann:s3cret@db.example:6000/shop?sslmode=require")
                .unwrap();
        assert_eq!(address.to_string(), "db.example:6000/shop");
        assert!(!format!("{address:?}").contains("s3cret"));
        let strict = PostgresAddress::new("postgres://ann@db/shop?sslmode=verify-full").unwrap();
        assert_eq!(strict.config().get_ssl_mode(), SslMode::Require);
        for url in [
            "postgres://ann:s3c@ret@db.example/shop",
            "postgres://ann:s3cret@db.example/shop?s3cret=1",
            "postgres://ann:s3cret@db.example:port/shop",
            "host=db password=s3cret",
            "postgres://ann:s3cret",
            "postgres://",
            "",
        ] {
            let error = PostgresAddress::new(url).unwrap_err().to_string();
            assert!(!error.contains("s3c") && !error.contains("ret@"), "{error}");
        }
    }

    #[test]
    fn options_of_other_clients_are_named() {
        for (option, wanted) in [
            ("sslrootcert=/ca.pem", "SSL_CERT_FILE"),
            ("sslmode=require&pgbouncer=true", "session mode"),
        ] {
            let url = format!("postgres://ann:s3cret@db/shop?{option}");
            let error = PostgresAddress::new(&url).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn arguments_hold_no_password() {
        let error = PostgresAddress::without_password("postgres://ann:s3cret@db/shop").unwrap_err();
        assert!(error.to_string().contains("PGPASSWORD"), "{error}");
        assert!(!error.to_string().contains("s3cret"), "{error}");
        let address = PostgresAddress::without_password("postgres://ann@db/shop").unwrap();
        let address = address.or_password(Some("s3cret".to_owned()));
        assert_eq!(address.config().get_password(), Some(&b"s3cret"[..]));
        let kept = PostgresAddress::new("postgres://ann:own@db/shop").unwrap();
        let kept = kept.or_password(Some("other".to_owned()));
        assert_eq!(kept.config().get_password(), Some(&b"own"[..]));
    }
}
