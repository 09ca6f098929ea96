//! Reading and writing `model.toml`, and checking what it says.

use serde::Deserialize;

use crate::checksum::is_sha256_hex;
use crate::simplex::Simplex;
use crate::version::{
    Classifier, ClassifierKind, FORMAT_VERSION, ModelVersion, VersionDraft, VersionError,
    version_number,
};
use crate::vertex_map::{VertexEnd, check_disjoint};

/// Bounds against hostile files: no network has wider layers or larger images than these.
const MAX_DIM: usize = 1 << 24;
const MAX_WIDTH: usize = 1 << 16;
const MAX_INPUT: usize = 1 << 14;
const MAX_CLASSES: usize = u32::MAX as usize;
const MAX_TEXT_BYTES: usize = 4096;

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
    if found != FORMAT_VERSION {
        return Err(VersionError::FormatVersion { found });
    }
    let version: ModelVersion = toml::from_str(text).map_err(syntax)?;
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
    Ok(version)
}

fn line_of(text: &str, error: &toml::de::Error) -> usize {
    let start = error.span().map_or(0, |span| span.start);
    let before = text.as_bytes().get(..start).unwrap_or_default();
    1 + before.iter().filter(|&&byte| byte == b'\n').count()
}

fn validate(draft: &VersionDraft) -> Result<(), VersionError> {
    check_range("dim", draft.dim, MAX_DIM)?;
    check_range("architecture.width", draft.architecture.width, MAX_WIDTH)?;
    for size in draft.architecture.input {
        check_range("architecture.input", size, MAX_INPUT)?;
    }
    if draft.architecture.backbone.is_empty() {
        return Err(value("architecture.backbone", "is empty"));
    }
    check_preprocessing(draft)?;
    check_classifier(&draft.classifier, draft.dim)?;
    for (key, text) in [
        (
            "architecture.backbone",
            draft.architecture.backbone.as_str(),
        ),
        ("architecture.stem", &draft.architecture.stem),
        ("parent", draft.parent.as_deref().unwrap_or_default()),
        ("method", &draft.method),
        ("data", &draft.data),
    ] {
        if text.len() > MAX_TEXT_BYTES || text.chars().any(char::is_control) {
            let problem = format!("expected one line of at most {MAX_TEXT_BYTES} bytes");
            return Err(value(key, problem));
        }
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

fn check_preprocessing(draft: &VersionDraft) -> Result<(), VersionError> {
    let channels = draft.architecture.input[0];
    let preprocessing = &draft.preprocessing;
    for (key, values) in [
        ("preprocessing.mean", &preprocessing.mean),
        ("preprocessing.std", &preprocessing.std),
    ] {
        if values.len() != channels {
            let problem = format!("has {} values for {channels} input channels", values.len());
            return Err(value(key, problem));
        }
    }
    if !preprocessing.mean.iter().all(|mean| mean.is_finite()) {
        return Err(value(
            "preprocessing.mean",
            "holds a value that is not finite",
        ));
    }
    if !preprocessing
        .std
        .iter()
        .all(|std| std.is_normal() && *std > 0.0)
    {
        return Err(value(
            "preprocessing.std",
            "holds a value that is not positive and finite",
        ));
    }
    Ok(())
}

fn check_classifier(classifier: &Classifier, dim: usize) -> Result<(), VersionError> {
    // An imported encoder may have been trained without classes.
    if classifier.classes > MAX_CLASSES {
        return Err(value(
            "classifier.classes",
            format!("exceeds {MAX_CLASSES}"),
        ));
    }
    match (classifier.kind, classifier.vertices, classifier.vertex_end) {
        (ClassifierKind::Linear, None, None) if classifier.skipped_vertices == 0 => Ok(()),
        (ClassifierKind::Linear, ..) => Err(value(
            "classifier.vertices",
            "a linear classifier has neither vertices nor vertex_end nor skipped_vertices; remove them",
        )),
        (ClassifierKind::Simplex, Some(vertices), Some(end)) => {
            let simplex = Simplex::new(vertices)?;
            if simplex.dim() != dim {
                let problem = format!(
                    "a simplex of {vertices} vertices needs dim {}, not {dim}",
                    simplex.dim()
                );
                return Err(value("classifier.vertices", problem));
            }
            let skipped = classifier.skipped_vertices;
            let local = match end {
                VertexEnd::Front if skipped > 0 => {
                    let problem = "classes at the front skip no vertices; remove it";
                    return Err(value("classifier.skipped_vertices", problem));
                }
                VertexEnd::Front => 0,
                VertexEnd::Back => classifier.classes.saturating_add(skipped),
            };
            let front = match end {
                VertexEnd::Front => classifier.classes.max(classifier.pretrained_classes),
                VertexEnd::Back => classifier.pretrained_classes,
            };
            Ok(check_disjoint(vertices, front, local)?)
        }
        (ClassifierKind::Simplex, ..) => Err(value(
            "classifier.vertices",
            "a simplex classifier needs both vertices and vertex_end",
        )),
    }
}

fn check_range(key: &'static str, number: usize, max: usize) -> Result<(), VersionError> {
    if (1..=max).contains(&number) {
        return Ok(());
    }
    Err(value(key, format!("{number} is not between 1 and {max}")))
}

fn value(key: &'static str, problem: impl Into<String>) -> VersionError {
    VersionError::Value {
        key,
        problem: problem.into(),
    }
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
        assert_eq!(version.preprocessing.mean, [0.5071, 0.4867, 0.4408]);
        assert_eq!(version.classifier.vertex_end, Some(VertexEnd::Back));
    }

    #[test]
    fn a_linear_version_has_no_vertices() {
        let text = EXAMPLE
            .replace("\"simplex\"", "\"linear\"")
            .replace("vertices = 1024\nvertex_end = \"back\"\n", "")
            .replace("parent = \"v0002\"\n", "");
        let version = parse(&text).unwrap();
        assert_eq!(
            (version.parent.as_deref(), version.classifier.vertices),
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
    fn a_later_format_is_refused_before_its_keys() {
        let text = EXAMPLE.replace("format_version = 1", "format_version = 2\nnovelty = true");
        assert_eq!(parse(&text), Err(VersionError::FormatVersion { found: 2 }));
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
