//! Every setting of `perennial serve`, in one file, with the environment and the command line on top of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::ArgMatches;
use clap::parser::ValueSource;
use perennial_core::SpaceId;
use perennial_encode::InputType;
use perennial_serve::{
    AddressRange, AnswerUncertified, Batching, Limits, ServeConfig, ServeError, Timeouts, TlsFiles,
    UpstreamConfig,
};
use perennial_train::DeviceChoice;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::Value;

use super::arguments::Arguments;
use crate::configuration::{Layers, parse_value, process_environment, to_toml};
use crate::database_store::DatabaseSettings;
use crate::exit_status::usage;
use crate::gallery_folder::GalleryArguments;
use crate::log_filter::{LOG_VARIABLE, LogFilter};
use crate::terminal::LogFormat;

/// The folder in a gallery's folder with the stored probes: embeddings recorded when a version first went live.
pub const PROBES_FOLDER: &str = "probes";

/// The keys of `--config`; `contrib/serve.toml` explains each of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    #[serde(deserialize_with = "crate::listen_address::deserialize")]
    pub listen: SocketAddr,
    pub registry: PathBuf,
    pub gallery: PathBuf,
    #[serde(serialize_with = "display", deserialize_with = "parse")]
    pub device: DeviceChoice,
    pub onnxruntime: Option<PathBuf>,
    pub keys: Option<PathBuf>,
    pub snapshots: Option<PathBuf>,
    pub probes: Option<PathBuf>,
    pub originals: Option<String>,
    pub log: Option<LogFilter>,
    pub log_format: LogFormatSetting,
    pub read_only: bool,
    pub force_uncertified: bool,
    pub answer_in: Option<SpaceId>,
    pub answer_from: Option<String>,
    pub answer_uncertified: Option<AnswerUncertified>,
    pub default_input_type: InputType,
    pub trusted_proxies: Vec<AddressRange>,
    pub tls: Option<TlsFiles>,
    pub store: Option<DatabaseSettings>,
    pub index: Index,
    pub batching: Batching,
    pub limits: Limits,
    pub timeouts: Timeouts,
    pub upstream: BTreeMap<String, UpstreamConfig>,
}

/// How searches compare vectors.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Index {
    /// Exact search: compare with every vector in f32.
    pub exact: bool,
    /// Number of items of a space from which on it gets an approximate HNSW index, in a program with it; 0 disables it.
    pub hnsw_from: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormatSetting {
    #[default]
    Text,
    Json,
}

impl From<LogFormatSetting> for LogFormat {
    fn from(setting: LogFormatSetting) -> Self {
        match setting {
            LogFormatSetting::Text => Self::TimedText,
            LogFormatSetting::Json => Self::Json,
        }
    }
}

impl Index {
    /// Of a gallery in a database, which has indexes of its own.
    fn refuse_changes(&self) -> anyhow::Result<()> {
        let Self { exact, hnsw_from } = Self::default();
        let key = match (self.exact != exact, self.hnsw_from != hnsw_from) {
            (true, _) => "index.exact",
            (_, true) => "index.hnsw_from",
            _ => return Ok(()),
        };
        Err(usage(format!(
            "{key}: a gallery in a database has indexes of its own and is searched exactly without one; leave the setting out, and set \
             store.hnsw_from for an approximate index"
        )))
    }
}

impl Default for Index {
    fn default() -> Self {
        Self {
            exact: false,
            hnsw_from: perennial_gallery::GalleryConfig::default().hnsw_from,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        let service = ServeConfig::default();
        Self {
            listen: service.listen,
            registry: "registry".into(),
            gallery: "gallery".into(),
            device: DeviceChoice::default(),
            onnxruntime: None,
            keys: None,
            snapshots: service.snapshots,
            probes: service.probes,
            originals: service.originals,
            log: None,
            log_format: LogFormatSetting::default(),
            read_only: service.read_only,
            force_uncertified: service.force_uncertified,
            answer_in: service.answer_in,
            answer_from: service.answer_from,
            answer_uncertified: service.answer_uncertified,
            default_input_type: service.default_input_type,
            trusted_proxies: service.trusted_proxies,
            tls: service.tls,
            store: None,
            index: Index::default(),
            batching: service.batching,
            limits: service.limits,
            timeouts: service.timeouts,
            upstream: service.upstream,
        }
    }
}

/// How an option's value becomes one of the configuration.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Number,
    Flag,
}

/// Options and variables with a name of their own: id and key.
const OPTIONS: [(&str, &str, Kind); 18] = [
    ("listen", "listen", Kind::Text),
    ("registry", "registry", Kind::Text),
    ("gallery", "gallery", Kind::Text),
    ("store", "store.url", Kind::Text),
    ("device", "device", Kind::Text),
    ("onnxruntime", "onnxruntime", Kind::Text),
    ("keys", "keys", Kind::Text),
    ("snapshots", "snapshots", Kind::Text),
    ("tls_certificate", "tls.certificate", Kind::Text),
    ("tls_key", "tls.key", Kind::Text),
    ("log_format", "log_format", Kind::Text),
    ("answer_in", "answer_in", Kind::Text),
    ("answer_from", "answer_from", Kind::Text),
    ("answer_uncertified", "answer_uncertified", Kind::Text),
    ("hnsw_from", "index.hnsw_from", Kind::Number),
    ("read_only", "read_only", Kind::Flag),
    ("force_uncertified", "force_uncertified", Kind::Flag),
    ("exact", "index.exact", Kind::Flag),
];

/// The setting that a check found wrong.
fn key_of(error: &ServeError) -> Option<String> {
    match error {
        ServeError::Config { key, .. } => Some(key.to_string()),
        _ => None,
    }
}

impl Settings {
    /// The file, then the environment, then `--set`, then options of their own.
    pub fn resolve(arguments: &Arguments, matches: &ArgMatches) -> anyhow::Result<Self> {
        let mut layers = match &arguments.config {
            Some(path) => Layers::read(path)?,
            None => Layers::parse("defaults", "")?,
        };
        layers = layers.environment(process_environment()?)?;
        if let Some(filter) = std::env::var_os(LOG_VARIABLE).filter(|text| !text.is_empty()) {
            let filter = filter.to_string_lossy().into_owned();
            layers = layers.value("log", filter.into(), variable(LOG_VARIABLE))?;
        }
        layers = options(layers, matches, ValueSource::EnvVariable)?;
        layers = layers.set(&arguments.set)?;
        let mut settings: Self = options(layers, matches, ValueSource::CommandLine)?
            .resolve_checked(|settings: &Self| settings.config().check(), key_of)
            .map_err(|error| usage(format!("{error:#}")))?;
        if let Some(store) = &settings.store {
            let option = matches.value_source("store") == Some(ValueSource::CommandLine);
            let set = arguments.set.iter().map(|text| text.trim_start());
            store.check(option || set.into_iter().any(|text| text.starts_with("store")))?;
            settings.index.refuse_changes()?;
        }
        let probes = settings.gallery.join(PROBES_FOLDER);
        settings.probes.get_or_insert(probes);
        Ok(settings)
    }

    /// The configuration of the service itself, without the API keys.
    pub fn config(&self) -> ServeConfig {
        ServeConfig {
            listen: self.listen,
            tls: self.tls.clone(),
            gallery: Some(self.gallery.clone()),
            snapshots: self.snapshots.clone(),
            probes: self.probes.clone(),
            originals: self.originals.clone(),
            answer_in: self.answer_in.clone(),
            answer_from: self.answer_from.clone(),
            answer_uncertified: self.answer_uncertified,
            default_input_type: self.default_input_type,
            upstream: self.upstream.clone(),
            trusted_proxies: self.trusted_proxies.clone(),
            read_only: self.read_only,
            force_uncertified: self.force_uncertified,
            batching: self.batching.clone(),
            limits: self.limits.clone(),
            timeouts: self.timeouts.clone(),
            ..ServeConfig::default()
        }
    }

    /// All settings as a configuration file; keys without a value are named in a comment.
    pub fn to_toml(&self) -> anyhow::Result<String> {
        let mut text = to_toml(self)?;
        let values = serde_json::to_value(self)?;
        let unset: Vec<&str> = values
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(_, value)| value.is_null())
            .map(|(key, _)| key.as_str())
            .collect();
        if !unset.is_empty() {
            text.push_str(&format!("\n# Not set: {}\n", unset.join(", ")));
        }
        Ok(text)
    }

    pub fn gallery(&self) -> GalleryArguments {
        let Index { exact, hnsw_from } = self.index;
        GalleryArguments::new(self.gallery.clone(), exact, hnsw_from)
    }
}

/// Puts the options that were given in one way, on the command line or by a variable of their own.
fn options(
    mut layers: Layers,
    matches: &ArgMatches,
    source: ValueSource,
) -> anyhow::Result<Layers> {
    for (id, key, kind) in OPTIONS {
        if matches.value_source(id) != Some(source) {
            continue;
        }
        let given = matches.get_raw(id).into_iter().flatten().next_back();
        let flag = format!("--{}", id.replace('_', "-"));
        let origin = match source {
            ValueSource::EnvVariable => variable(&format!("PERENNIAL_{}", id.to_uppercase())),
            _ => flag,
        };
        let text = || {
            let text = given.and_then(|value| value.to_str());
            text.ok_or_else(|| usage(format!("{origin}: the value is not UTF-8 text")))
        };
        let value = match kind {
            Kind::Text => Value::String(text()?.to_owned()),
            Kind::Number => parse_value(text()?),
            Kind::Flag => Value::Boolean(true),
        };
        layers = layers.value(key, value, origin)?;
    }
    Ok(layers)
}

fn variable(name: &str) -> String {
    format!("environment variable {name}")
}

fn display<S: Serializer>(device: &DeviceChoice, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(device)
}

fn parse<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DeviceChoice, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const EXAMPLE: &str = include_str!("../../../serve.toml");

    fn resolve(text: &str) -> anyhow::Result<Settings> {
        Layers::parse("serve.toml", text)?.resolve()
    }

    /// All keys of a table, as the refusal of an unknown one lists them.
    fn known_keys(table: &str) -> BTreeSet<String> {
        let text = match table {
            "" => "qqqqqqqq = 1".to_owned(),
            _ => format!("[{table}]\nqqqqqqqq = 1"),
        };
        let error = toml::from_str::<Settings>(&text).unwrap_err().to_string();
        let (_, known) = error.split_once("expected one of").unwrap_or_else(|| {
            // Two keys are "expected `a` or `b`".
            error.split_once("expected").unwrap()
        });
        known
            .split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn the_example_has_every_key_and_no_other() {
        // What would change the answers of a service, and needs other services, is commented out.
        let uncommented = EXAMPLE.replace("\n#! ", "\n");
        let example: toml::Table = uncommented.parse().unwrap();
        let settings = resolve(&uncommented).unwrap();
        settings.config().check().unwrap();
        let keys = |table: &toml::Table| table.keys().cloned().collect::<BTreeSet<String>>();
        assert_eq!(keys(&example), known_keys(""));
        for (name, value) in &example {
            match value {
                Value::Table(upstreams) if name == "upstream" => {
                    // The names are the operator's own.
                    for (name, upstream) in upstreams {
                        let table = format!("upstream.{name}");
                        let found = keys(upstream.as_table().unwrap());
                        assert_eq!(found, known_keys(&table), "[{table}]");
                    }
                }
                Value::Table(table) => assert_eq!(keys(table), known_keys(name), "[{name}]"),
                _ => {}
            }
        }
        // Every key is explained right above it.
        let mut before = "";
        for line in uncommented.lines() {
            if line.contains(" = ") && !line.starts_with('#') {
                assert!(before.starts_with('#'), "{line:?} has no comment");
            }
            before = line;
        }
    }

    #[test]
    fn the_example_holds_the_defaults_where_there_are_any() {
        let example = serde_json::to_value(resolve(EXAMPLE).unwrap()).unwrap();
        let defaults = serde_json::to_value(Settings::default()).unwrap();
        let own = ["registry", "gallery", "trusted_proxies"];
        for (key, default) in defaults.as_object().unwrap() {
            if default.is_null() || own.contains(&key.as_str()) {
                continue;
            }
            if key == "limits" {
                for (limit, value) in default.as_object().unwrap() {
                    // That one depends on the machine.
                    assert!(
                        limit == "decoders" || example[key][limit] == *value,
                        "{limit}"
                    );
                }
                continue;
            }
            assert_eq!(example[key], *default, "{key}");
        }
    }

    #[test]
    fn mistakes_name_file_and_key() {
        for (text, says) in [
            ("galery = \"x\"", "did you mean `gallery`?"),
            (
                "[limits]\nper_client_persecond = 1",
                "per_client_per_second",
            ),
            (
                "trusted_proxies = [\"10.0.0.1/8\"]",
                "bits beyond its prefix",
            ),
            ("trusted_proxies = [\"proxy\"]", "10.0.0.0/8"),
            ("device = \"gpu\"", "device"),
            ("log = \"loud\"", "not a log filter"),
            ("log_format = \"xml\"", "cannot be `xml`"),
            (
                "listen = \"7700\"",
                "`listen`: expected an IP address and a port",
            ),
            ("listen = 7700", "got \"7700\"; write 127.0.0.1:7700"),
            ("listen = \"localhost:80\"", "write 127.0.0.1:80"),
            ("listen = true", "such as \"127.0.0.1:7700\""),
            ("answer_uncertified = \"new\"", "cannot be `new`"),
            (
                "[upstream.a]\nspace = \"s\"\nurl = \"http://h\"\nmodel = \"m\"\nkey = \"sk-1\"",
                "`env:NAME`",
            ),
            (
                "[upstream.a]\nspace = \"s\"\nurl = \"http://h\"\nmodel = \"m\"\ntimeout = 1",
                "`timeout_seconds`",
            ),
            ("[tls]\ncertificate = \"c.pem\"", "`tls.key` is missing"),
            ("[store]\nconnections = 2", "`store.url` is missing"),
        ] {
            let error = resolve(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
            assert!(error.starts_with("serve.toml"), "{text}: {error}");
        }
    }
}
