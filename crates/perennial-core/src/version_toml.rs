//! Reading and writing `model.toml`, and checking what it says.

use serde::{Deserialize, Serialize, Serializer};

use crate::checksum::is_sha256_hex;
use crate::classifier::Classifier;
use crate::endpoint::MAX_ENDPOINT_DIM;
use crate::network_rules::{check_classifier, check_line, check_network, check_range, value};
use crate::outside_encoder::OutsideEncoder;
use crate::version::{
    Architecture, ModelVersion, NETWORK_FORMAT, OUTSIDE_FORMAT, Preprocessing, Role,
    TrainedNetwork, VersionDraft, VersionEncoder, VersionError, version_number,
};

/// A bound against hostile files: no embedding is longer.
pub(crate) const MAX_DIM: usize = 1 << 24;

/// The content of `model.toml`, key by key.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct VersionFile {
    // Scalars stay ahead of the tables, as TOML demands.
    format_version: i64,
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    role: Role,
    method: String,
    data: String,
    seed: u64,
    created: String,
    dim: usize,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    centred: bool,
    weights_sha256: String,
    weights_bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    architecture: Option<Architecture>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    preprocessing: Option<Preprocessing>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    classifier: Option<Classifier>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    encoder: Option<OutsideEncoder>,
}

impl VersionFile {
    fn of(version: &ModelVersion) -> Self {
        let version = version.clone();
        let (format_version, network, encoder) = match version.encoder {
            VersionEncoder::Network(network) => (NETWORK_FORMAT, Some(network), None),
            VersionEncoder::Outside(outside) => (OUTSIDE_FORMAT, None, Some(outside)),
        };
        let (architecture, preprocessing, classifier) = match network {
            Some(network) => (
                Some(network.architecture),
                Some(network.preprocessing),
                Some(network.classifier),
            ),
            None => (None, None, None),
        };
        Self {
            format_version,
            name: version.name,
            parent: version.parent,
            role: version.role,
            method: version.method,
            data: version.data,
            seed: version.seed,
            created: version.created,
            dim: version.dim,
            centred: version.centred,
            weights_sha256: version.weights_sha256,
            weights_bytes: version.weights_bytes,
            architecture,
            preprocessing,
            classifier,
            encoder,
        }
    }

    fn into_version(self) -> Result<ModelVersion, VersionError> {
        let encoder = match (self.format_version, self.encoder) {
            (OUTSIDE_FORMAT, Some(outside)) => {
                for (key, given) in [
                    ("architecture", self.architecture.is_some()),
                    ("preprocessing", self.preprocessing.is_some()),
                    ("classifier", self.classifier.is_some()),
                ] {
                    if given {
                        return Err(value(
                            key,
                            "an encoder of another program has none; remove it",
                        ));
                    }
                }
                VersionEncoder::Outside(outside)
            }
            (OUTSIDE_FORMAT, None) => {
                let problem = format!("is missing, as format_version {OUTSIDE_FORMAT} needs it");
                return Err(value("encoder", problem));
            }
            (_, Some(_)) => {
                let problem = format!("needs format_version {OUTSIDE_FORMAT}");
                return Err(value("encoder", problem));
            }
            (_, None) => {
                let missing = |key: &'static str| move || value(key, "is missing");
                VersionEncoder::Network(TrainedNetwork {
                    architecture: self.architecture.ok_or_else(missing("architecture"))?,
                    preprocessing: self.preprocessing.ok_or_else(missing("preprocessing"))?,
                    classifier: self.classifier.ok_or_else(missing("classifier"))?,
                })
            }
        };
        Ok(ModelVersion {
            name: self.name,
            parent: self.parent,
            role: self.role,
            method: self.method,
            data: self.data,
            seed: self.seed,
            created: self.created,
            dim: self.dim,
            centred: self.centred,
            weights_sha256: self.weights_sha256,
            weights_bytes: self.weights_bytes,
            encoder,
        })
    }
}

/// As in `model.toml`.
impl Serialize for ModelVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        VersionFile::of(self).serialize(serializer)
    }
}

impl VersionDraft {
    /// Checks every value, alone and against the others.
    ///
    /// # Errors
    /// [`VersionError`], which names the key.
    pub fn validate(&self) -> Result<(), VersionError> {
        validate(self)
    }
}

impl ModelVersion {
    /// Parses and checks the content of a `model.toml`.
    ///
    /// # Errors
    /// [`VersionError`], which names the line or the key.
    pub fn from_toml(text: &str) -> Result<Self, VersionError> {
        parse(text)
    }

    /// The content of `model.toml`.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a version has string keys, no empty values and no unit types")
    }
}

fn parse(text: &str) -> Result<ModelVersion, VersionError> {
    // Read on its own first: a later format has unknown keys, and its version is the better explanation.
    #[derive(Deserialize)]
    struct Format {
        format_version: i64,
    }
    let syntax = |error: toml::de::Error| VersionError::Syntax {
        line: line_of(text, &error),
        problem: error.message().to_owned(),
    };
    let found = toml::from_str::<Format>(text)
        .map_err(syntax)?
        .format_version;
    if !matches!(found, NETWORK_FORMAT | OUTSIDE_FORMAT) {
        return Err(VersionError::FormatVersion { found });
    }
    let file: VersionFile = toml::from_str(text).map_err(syntax)?;
    let version = file.into_version()?;
    if version_number(&version.name).is_none() {
        let problem = format!("{:?} is not a version name such as v0003", version.name);
        return Err(value("name", problem));
    }
    if !is_sha256_hex(&version.weights_sha256) {
        return Err(value(
            "weights_sha256",
            "expected 64 lower-case hexadecimal digits",
        ));
    }
    validate(&version.draft())?;
    if let Some(outside) = version.outside() {
        if version.weights_sha256 != outside.files_sha256() {
            let problem = "is not the hash of the list of files in encoder.files";
            return Err(value("weights_sha256", problem));
        }
        if version.weights_bytes != outside.files_bytes() {
            let problem = "is not the sum of the sizes in encoder.files";
            return Err(value("weights_bytes", problem));
        }
    }
    Ok(version)
}

fn line_of(text: &str, error: &toml::de::Error) -> usize {
    let start = error.span().map_or(0, |span| span.start);
    let before = text.as_bytes().get(..start).unwrap_or_default();
    1 + before.iter().filter(|&&byte| byte == b'\n').count()
}

fn validate(draft: &VersionDraft) -> Result<(), VersionError> {
    check_range("dim", draft.dim, MAX_DIM)?;
    match &draft.encoder {
        VersionEncoder::Network(network) => check_network(network, draft.dim)?,
        VersionEncoder::Outside(_) if draft.centred => {
            let problem = "an encoder of another program is not centred; remove it";
            return Err(value("centred", problem));
        }
        VersionEncoder::Outside(outside) => {
            outside.validate()?;
            if outside.endpoint.is_some() {
                check_range("dim", draft.dim, MAX_ENDPOINT_DIM)?;
            }
            if let Some(head) = &outside.head {
                check_classifier(&head.classifier, draft.dim)?;
            }
        }
    }
    for (key, text) in [
        ("parent", draft.parent.as_deref().unwrap_or_default()),
        ("method", &draft.method),
        ("data", &draft.data),
    ] {
        check_line(key, text)?;
    }
    if !is_rfc3339_utc(&draft.created) {
        let problem = format!(
            "{:?} is not a UTC time such as 2026-11-22T21:35:00Z",
            draft.created
        );
        return Err(value("created", problem));
    }
    Ok(())
}

/// The form `YYYY-MM-DDTHH:MM:SS[.digits]Z` with fields in range; days per month are not counted.
fn is_rfc3339_utc(text: &str) -> bool {
    let Some((seconds, rest)) = text.split_at_checked(19) else {
        return false;
    };
    let form_matches = seconds
        .bytes()
        .zip("dddd-dd-ddTdd:dd:dd".bytes())
        .all(|(byte, form)| {
            if form == b'd' {
                byte.is_ascii_digit()
            } else {
                byte == form
            }
        });
    let in_range = |start: usize, range: std::ops::RangeInclusive<u8>| {
        seconds[start..start + 2]
            .parse()
            .is_ok_and(|field| range.contains(&field))
    };
    let fraction = rest.strip_suffix('Z').is_some_and(|rest| {
        rest.is_empty()
            || rest.strip_prefix('.').is_some_and(|digits| {
                !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
            })
    });
    form_matches
        && fraction
        && in_range(5, 1..=12)
        && in_range(8, 1..=31)
        && in_range(11, 0..=23)
        && in_range(14, 0..=59)
        && in_range(17, 0..=60)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::version::Role;
    use crate::vertex_map::VertexEnd;

    const EXAMPLE: &str = include_str!("../testdata/model.toml");

    fn error_after(from: &str, to: &str) -> String {
        assert!(EXAMPLE.contains(from), "{from}");
        parse(&EXAMPLE.replace(from, to)).unwrap_err().to_string()
    }

    #[test]
    fn the_golden_file_is_read_and_written_unchanged() {
        let version = parse(EXAMPLE).unwrap();
        assert_eq!(version.to_toml(), EXAMPLE);
        assert_eq!((version.role, version.seed), (Role::Replacement, u64::MAX));
        let network = version.network().unwrap();
        assert_eq!(network.preprocessing.mean, [0.5071, 0.4867, 0.4408]);
        assert_eq!(network.classifier.vertex_end, Some(VertexEnd::Back));
    }

    #[test]
    fn a_linear_version_has_no_vertices() {
        let text = EXAMPLE
            .replace("\"simplex\"", "\"linear\"")
            .replace("vertices = 1024\nvertex_end = \"back\"\n", "")
            .replace("parent = \"v0002\"\n", "");
        let version = parse(&text).unwrap();
        assert_eq!(
            (version.parent.as_deref(), version.simplex_vertices()),
            (None, None)
        );
        assert_eq!(version.to_toml(), text);
        assert!(error_after("\"simplex\"", "\"linear\"").contains("remove them"));
    }

    #[test]
    fn unknown_and_mistyped_keys_name_the_line() {
        assert!(error_after("stem =", "stemm =").starts_with("line 15: unknown field `stemm`"));
        assert!(error_after("seed = ", "sead = ").contains("`sead`"));
        assert!(error_after("width = 64", "width = \"64\"").starts_with("line 16:"));
        assert!(error_after("dim = 1023", "").contains("`dim`"));
        assert!(error_after("dim = 1023", "dim = -1").starts_with("line 9:"));
        assert!(error_after("\"hoc\"", "\"hoc").starts_with("line 5:"));
    }

    #[test]
    fn a_centred_version_says_so_and_no_other_does() {
        assert!(!parse(EXAMPLE).unwrap().centred);
        let text = EXAMPLE.replace("dim = 1023\n", "dim = 1023\ncentred = true\n");
        let version = parse(&text).unwrap();
        assert!(version.centred && version.draft().centred);
        assert_eq!(version.to_toml(), text);
    }

    #[test]
    fn a_version_may_embed_by_the_features_in_front_of_its_layer() {
        let text = EXAMPLE
            .replace("dim = 1023", "dim = 512")
            .replace("32, 32]\n", "32, 32]\nembedding = \"features\"\n");
        let version = parse(&text).unwrap();
        assert_eq!(version.to_toml(), text);
        let (features, layer) = (version.space(), parse(EXAMPLE).unwrap().space());
        assert_ne!(features.fingerprint, layer.fingerprint);
        // Its classes have vertices, its embeddings have none.
        let vertices = version.classifier().map(|classifier| classifier.vertices);
        assert_eq!(
            (vertices, version.simplex_vertices()),
            (Some(Some(1024)), None)
        );

        let linear = text
            .replace("\"simplex\"", "\"linear\"")
            .replace("vertices = 1024\nvertex_end = \"back\"\n", "");
        let error = parse(&linear).unwrap_err().to_string();
        assert!(error.starts_with("architecture.embedding: "), "{error}");
        let unknown = error_after("32, 32]\n", "32, 32]\nembedding = \"pixels\"\n");
        assert!(unknown.contains("`features`"), "{unknown}");
    }

    #[test]
    fn a_later_format_is_refused_before_its_keys() {
        let text = EXAMPLE.replace("format_version = 1", "format_version = 3\nnovelty = true");
        assert_eq!(parse(&text), Err(VersionError::FormatVersion { found: 3 }));
        assert!(error_after("format_version = 1", "format_version = 2").contains("encoder"));
        assert!(error_after("format_version = 1", "").contains("format_version"));
    }

    #[test]
    fn wrong_values_name_their_key() {
        for (from, to, key) in [
            ("\"v0003\"", "\"../v0003\"", "name"),
            ("\"v0003\"", "\"v3\"", "name"),
            ("dim = 1023", "dim = 512", "classifier.vertices"),
            ("[3, 32, 32]", "[3, 0, 32]", "architecture.input"),
            ("[3, 32, 32]", "[1, 32, 32]", "preprocessing.mean"),
            ("width = 64", "width = 9999999", "architecture.width"),
            ("\"resnet18\"", "\"\"", "architecture.backbone"),
            ("0.2675", "0.0", "preprocessing.std"),
            ("0.2675", "nan", "preprocessing.std"),
            ("0.5071", "inf", "preprocessing.mean"),
            ("vertex_end = \"back\"", "", "classifier.vertices"),
            ("\"ba7816", "\"BA7816", "weights_sha256"),
            ("\"hoc\"", "\"a\\nb\"", "method"),
            ("21:35:00Z", "21:35:00", "created"),
        ] {
            let error = error_after(from, to);
            assert!(error.starts_with(&format!("{key}: ")), "{to}: {error}");
        }
        assert!(
            error_after("pretrained_classes = 300", "pretrained_classes = 1000")
                .contains("999..1024")
        );
    }

    #[test]
    fn only_utc_times_pass() {
        for good in ["2026-11-22T21:35:00Z", "2026-11-22T23:59:60.123456Z"] {
            assert!(is_rfc3339_utc(good), "{good}");
        }
        for bad in [
            "",
            "2026-11-22",
            "2026-11-22 21:35:00Z",
            "2026-11-22T21:35:00+01:00",
            "2026-13-22T21:35:00Z",
            "2026-11-00T21:35:00Z",
            "2026-11-22T24:35:00Z",
            "2026-11-22T21:35:00.Z",
            "2026-11-22T21:35:0éZ",
        ] {
            assert!(!is_rfc3339_utc(bad), "{bad}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn damaged_text_never_panics(
            at in any::<prop::sample::Index>(),
            length in 0usize..30,
            text in "\\PC{0,20}",
        ) {
            let start = at.index(EXAMPLE.len());
            let end = (start + length).min(EXAMPLE.len());
            let _ = parse(&format!("{}{text}{}", &EXAMPLE[..start], &EXAMPLE[end..]));
        }
    }
}
