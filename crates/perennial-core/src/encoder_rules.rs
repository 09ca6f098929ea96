//! Checks of the `[encoder]` table of `model.toml`, alone and against itself.

use std::collections::BTreeSet;

use crate::checksum::is_sha256_hex;
use crate::network_rules::{check_mean, check_range, check_std, value};
use crate::outside_encoder::{
    CANARY_FILE, EncoderFile, EncoderKind, Graph, ImagePreparation, MAX_INPUT_SIDE,
    MAX_SHORTEST_SIDE, OutsideEncoder, Pooling, Resize, TextTower,
};
use crate::version::VersionError;
use crate::version_toml::MAX_DIM;

/// Bounds against hostile files.
const MAX_FILES: usize = 64;
const MAX_NAME_BYTES: usize = 255;
const MAX_FILE_BYTES: u64 = 1 << 36;
const MAX_OUTPUT_BYTES: usize = 512;
const MAX_TOKENS: usize = 1 << 16;
const MAX_PREFIX_BYTES: usize = 4096;

/// Names that the registry keeps for itself in a version's folder.
const RESERVED: [&str; 2] = ["model.toml", "weights.safetensors"];

impl OutsideEncoder {
    /// Checks every value, alone and against the others.
    ///
    /// # Errors
    /// [`VersionError`], which names the key.
    pub fn validate(&self) -> Result<(), VersionError> {
        check_files(&self.files)?;
        if self.kind == EncoderKind::Endpoint || self.endpoint.is_some() {
            return self.check_endpoint();
        }
        if self.accepts().is_empty() {
            return Err(value(
                "encoder",
                "has neither a table image nor a table text",
            ));
        }
        if let Some(image) = &self.image {
            check_graph("encoder.image.graph", &image.graph, &self.files)?;
            if image.graph.pooling == Pooling::LastToken {
                let problem = "pictures have no last token; use none, mean or cls";
                return Err(value("encoder.image.graph", problem));
            }
            if self.kind == EncoderKind::TokenTable {
                return Err(value(
                    "encoder.image",
                    "a table of tokens embeds texts only",
                ));
            }
            check_preparation(&image.preparation)?;
        }
        if let Some(head) = &self.head {
            check_listed("encoder.head.file", &head.file, &self.files)?;
            check_range("encoder.head.inputs", head.inputs, MAX_DIM)?;
        }
        match &self.text {
            Some(text) => self.check_text(text),
            None => Ok(()),
        }
    }

    /// An embedding service has no files but what it once answered.
    fn check_endpoint(&self) -> Result<(), VersionError> {
        let endpoint = match &self.endpoint {
            Some(endpoint) if self.kind == EncoderKind::Endpoint => endpoint,
            Some(_) => {
                let problem = "needs kind = \"endpoint\"";
                return Err(value("encoder.endpoint", problem));
            }
            None => {
                let problem = "is missing, as kind = \"endpoint\" needs it";
                return Err(value("encoder.endpoint", problem));
            }
        };
        for (key, given) in [
            ("encoder.image", self.image.is_some()),
            ("encoder.text", self.text.is_some()),
            ("encoder.head", self.head.is_some()),
        ] {
            if given {
                return Err(value(key, "an embedding service has none; remove it"));
            }
        }
        if !matches!(&*self.files, [file] if file.name == CANARY_FILE) {
            let problem = format!("an embedding service has one file, {CANARY_FILE}");
            return Err(value("encoder.files", problem));
        }
        endpoint
            .check()
            .map_err(|(key, problem)| value("encoder.endpoint", format!("{key} {problem}")))
    }

    fn check_text(&self, text: &TextTower) -> Result<(), VersionError> {
        check_graph("encoder.text.graph", &text.graph, &self.files)?;
        check_listed("encoder.text.tokenizer", &text.tokenizer, &self.files)?;
        check_range("encoder.text.max_tokens", text.max_tokens, MAX_TOKENS)?;
        for (key, prefix) in [
            ("encoder.text.query_prefix", &text.query_prefix),
            ("encoder.text.document_prefix", &text.document_prefix),
        ] {
            let odd = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
            if prefix.len() > MAX_PREFIX_BYTES || prefix.chars().any(odd) {
                let problem = format!(
                    "expected at most {MAX_PREFIX_BYTES} bytes without control characters other than line feeds and tabs"
                );
                return Err(value(key, problem));
            }
        }
        Ok(())
    }
}

fn check_files(files: &[EncoderFile]) -> Result<(), VersionError> {
    let key = "encoder.files";
    check_range(key, files.len(), MAX_FILES)?;
    let mut names = BTreeSet::new();
    for file in files {
        let name = &file.name;
        let shown: String = name.chars().take(MAX_NAME_BYTES).collect();
        if !is_plain_file_name(name) {
            let problem = format!(
                "{shown:?} is not the plain name of a file in the version's folder: no separators, no dot in front, at most {MAX_NAME_BYTES} bytes"
            );
            return Err(value(key, problem));
        }
        if RESERVED.iter().any(|own| name.eq_ignore_ascii_case(own)) {
            let problem = format!("{shown} is a name of the registry; rename the file");
            return Err(value(key, problem));
        }
        // Two such files are one file on some disks.
        if !names.insert(name.to_lowercase()) {
            return Err(value(key, format!("{shown} is listed twice")));
        }
        if !is_sha256_hex(&file.sha256) {
            let problem = format!("{shown}: sha256 must be 64 lower-case hexadecimal digits");
            return Err(value(key, problem));
        }
        if !(1..=MAX_FILE_BYTES).contains(&file.bytes) {
            let problem = format!("{shown}: bytes must be 1 to {MAX_FILE_BYTES}");
            return Err(value(key, problem));
        }
    }
    Ok(())
}

/// Whether a name can only be a file directly in a folder.
pub(crate) fn is_plain_file_name(name: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&name.len())
        && !name.starts_with('.')
        && !name
            .chars()
            .any(|c| c.is_control() || matches!(c, '/' | '\\' | ':'))
}

fn check_listed(key: &'static str, name: &str, files: &[EncoderFile]) -> Result<(), VersionError> {
    if files.iter().any(|file| file.name == name) {
        return Ok(());
    }
    let shown: String = name.chars().take(MAX_NAME_BYTES).collect();
    Err(value(key, format!("{shown:?} is not one of encoder.files")))
}

fn check_graph(
    key: &'static str,
    graph: &Graph,
    files: &[EncoderFile],
) -> Result<(), VersionError> {
    check_listed(key, &graph.file, files)?;
    let output = &graph.output;
    if !(1..=MAX_OUTPUT_BYTES).contains(&output.len()) || output.chars().any(char::is_control) {
        let problem = format!("output: expected a name of 1 to {MAX_OUTPUT_BYTES} bytes");
        return Err(value(key, problem));
    }
    Ok(())
}

fn check_preparation(preparation: &ImagePreparation) -> Result<(), VersionError> {
    let key = "encoder.image.preparation.size";
    for side in preparation.size {
        check_range(key, side, MAX_INPUT_SIDE)?;
    }
    let [height, width] = preparation.size;
    let resize = "encoder.image.preparation.resize";
    match preparation.resize {
        Resize::ShortestSide(side) => {
            check_range(resize, side, MAX_SHORTEST_SIDE)?;
            if side < height.max(width) {
                let problem = format!(
                    "a picture whose shorter side is {side} pixels does not cover {height}x{width}"
                );
                return Err(value(resize, problem));
            }
        }
        Resize::Exact => {}
        Resize::MiddleSquare if height != width => {
            let problem = format!("{height}x{width} is no square; use exact or shortest_side");
            return Err(value(resize, problem));
        }
        Resize::MiddleSquare => {}
    }
    if !preparation.scale.is_normal() || preparation.scale <= 0.0 {
        return Err(value(
            "encoder.image.preparation.scale",
            "is not positive and finite",
        ));
    }
    let channels = preparation.channels.count();
    for (key, values) in [
        ("encoder.image.preparation.mean", &preparation.mean),
        ("encoder.image.preparation.std", &preparation.std),
    ] {
        if values.len() != channels {
            let problem = format!("has {} values for {channels} channels", values.len());
            return Err(value(key, problem));
        }
    }
    check_mean("encoder.image.preparation.mean", &preparation.mean)?;
    check_std("encoder.image.preparation.std", &preparation.std)
}

#[cfg(test)]
mod tests {
    use crate::version::ModelVersion;

    /// A two-tower model.
    const EXAMPLE: &str = include_str!("../testdata/outside.toml");

    fn error_after(from: &str, to: &str) -> String {
        assert!(EXAMPLE.contains(from), "{from}");
        let changed = EXAMPLE.replacen(from, to, 1);
        ModelVersion::from_toml(&changed).unwrap_err().to_string()
    }

    #[test]
    fn the_golden_file_is_read_and_written_unchanged() {
        let version = ModelVersion::from_toml(EXAMPLE).unwrap();
        assert_eq!(version.to_toml(), EXAMPLE);
        assert_eq!(version.accepts().len(), 2);
        assert_eq!(version.picture_size(), Some([224, 224]));
        assert!(version.network().is_none() && version.simplex_vertices().is_none());
        let json = serde_json::to_value(&version).unwrap();
        assert_eq!(json["encoder"]["kind"], "onnx");
        assert!(json.get("architecture").is_none());
    }

    #[test]
    fn wrong_values_name_their_key() {
        for (from, to, key) in [
            ("\"image.onnx\"", "\"other.onnx\"", "encoder.image.graph"),
            (
                "output = \"image_embeds\"",
                "output = \"\"",
                "encoder.image.graph",
            ),
            (
                "pooling = \"none\"",
                "pooling = \"last_token\"",
                "encoder.image.graph",
            ),
            (
                "size = [224, 224]",
                "size = [224, 0]",
                "encoder.image.preparation.size",
            ),
            (
                "size = [224, 224]",
                "size = [9999, 224]",
                "encoder.image.preparation.size",
            ),
            (
                "shortest_side = 224",
                "shortest_side = 200",
                "encoder.image.preparation.resize",
            ),
            (
                "shortest_side = 224",
                "shortest_side = 99999",
                "encoder.image.preparation.resize",
            ),
            (
                "scale = 0.00392156862745098",
                "scale = 0.0",
                "encoder.image.preparation.scale",
            ),
            (
                "scale = 0.00392156862745098",
                "scale = nan",
                "encoder.image.preparation.scale",
            ),
            (
                "channels = \"rgb\"",
                "channels = \"grey\"",
                "encoder.image.preparation.mean",
            ),
            ("0.48145467", "inf", "encoder.image.preparation.mean"),
            ("0.26862955", "0.0", "encoder.image.preparation.std"),
            (
                "tokenizer = \"tokenizer.json\"",
                "tokenizer = \"t.json\"",
                "encoder.text.tokenizer",
            ),
            (
                "max_tokens = 77",
                "max_tokens = 0",
                "encoder.text.max_tokens",
            ),
            (
                "max_tokens = 77",
                "max_tokens = 9999999",
                "encoder.text.max_tokens",
            ),
            (
                "\"query: \"",
                "\"query\\u0000\"",
                "encoder.text.query_prefix",
            ),
            ("kind = \"onnx\"", "kind = \"token_table\"", "encoder.image"),
            (
                "name = \"text.onnx\"",
                "name = \"../text.onnx\"",
                "encoder.files",
            ),
            (
                "name = \"text.onnx\"",
                "name = \"Image.onnx\"",
                "encoder.files",
            ),
            (
                "name = \"text.onnx\"",
                "name = \"model.toml\"",
                "encoder.files",
            ),
            ("bytes = 5", "bytes = 0", "encoder.files"),
            ("bytes = 5", "bytes = 6", "weights_sha256"),
            ("weights_bytes = 12", "weights_bytes = 13", "weights_bytes"),
            ("dim = 512", "dim = 512\ncentred = true", "centred"),
            ("format_version = 2", "format_version = 1", "encoder"),
        ] {
            let error = error_after(from, to);
            assert!(error.starts_with(&format!("{key}: ")), "{to}: {error}");
        }
        assert!(error_after("max_tokens = 77", "max_tokens = 77\nnovelty = 1").contains("novelty"));
        let network = "\n[classifier]\nkind = \"linear\"\nclasses = 0\npretrained_classes = 0\n";
        let both = ModelVersion::from_toml(&format!("{EXAMPLE}{network}")).unwrap_err();
        assert!(both.to_string().starts_with("classifier: "), "{both}");
    }

    /// The same with a linear layer onto a simplex, whose file is the graph's for want of another.
    fn with_head() -> String {
        let head = "\n[encoder.head]\nfile = \"image.onnx\"\ninputs = 4\n\n[encoder.head.classifier]\nkind = \"simplex\"\nvertices = 513\n\
                    vertex_end = \"front\"\nclasses = 9\npretrained_classes = 9\n";
        EXAMPLE.replacen(
            "\n[[encoder.files]]",
            &format!("{head}\n[[encoder.files]]"),
            1,
        )
    }

    #[test]
    fn a_linear_layer_has_a_simplex_of_the_versions_dimension() {
        let text = with_head();
        let version = ModelVersion::from_toml(&text).unwrap();
        assert_eq!(version.to_toml(), text);
        assert_eq!(version.simplex_vertices(), Some(513));
        assert_eq!(version.classifier().unwrap().classes, 9);
        let without = ModelVersion::from_toml(EXAMPLE).unwrap();
        assert!(without.classifier().is_none());
        assert_ne!(version.space().fingerprint, without.space().fingerprint);
        for (from, to, key) in [
            (
                "file = \"image.onnx\"\ninputs",
                "file = \"head.safetensors\"\ninputs",
                "encoder.head.file",
            ),
            ("inputs = 4", "inputs = 0", "encoder.head.inputs"),
            ("vertices = 513", "vertices = 512", "classifier.vertices"),
        ] {
            assert!(text.contains(from), "{from}");
            let error = ModelVersion::from_toml(&text.replacen(from, to, 1)).unwrap_err();
            assert!(
                error.to_string().starts_with(&format!("{key}: ")),
                "{error}"
            );
        }
        let error = ModelVersion::from_toml(&text.replace("classes = 9", "classes = 600"));
        assert!(error.is_err());
    }

    /// An embedding service.
    const ENDPOINT: &str = include_str!("../testdata/endpoint.toml");

    #[test]
    fn an_embedding_service_is_known_by_its_model_and_its_canaries() {
        let version = ModelVersion::from_toml(ENDPOINT).unwrap();
        assert_eq!(version.to_toml(), ENDPOINT);
        assert_eq!(version.accepts(), [crate::space::Modality::Text]);
        let fingerprint = |text: &str| {
            assert_ne!(text, ENDPOINT);
            let version = ModelVersion::from_toml(text).unwrap();
            version.space().fingerprint
        };
        let own = version.space().fingerprint;
        // Where it is, and how patiently it is asked, is no other encoder.
        for (from, to) in [
            ("https://a.example/v1", "http://127.0.0.1:8080"),
            ("env:EMBEDDING_KEY", "file:/run/key"),
            ("tolerance = 0.01", "tolerance = 0.02"),
            ("retries = 2", "retries = 3"),
        ] {
            assert_eq!(fingerprint(&ENDPOINT.replace(from, to)), own, "{to}");
        }
        let sha256 = &version.outside().unwrap().files[0].sha256;
        let mut other = version.outside().unwrap().clone();
        other.files[0].sha256 = "00".repeat(32);
        let canaries = ENDPOINT
            .replace(&version.weights_sha256, &other.files_sha256())
            .replace(sha256, &"00".repeat(32));
        for other in [
            ENDPOINT.replace("\"small\"", "\"large\""),
            ENDPOINT.replace("api = \"openai\"", "api = \"tei\""),
            ENDPOINT.replace("\"query: \"", "\"question: \""),
            canaries,
        ] {
            assert_ne!(fingerprint(&other), own);
        }
        // That of a registered space is what it is, whatever the version's own canaries are.
        let table = "[encoder.endpoint.space]\nname = \"minilm\"\nfingerprint = ";
        let table = format!("{table}\"{}\"\n\n[[encoder.files]]", "ab".repeat(32));
        let registered = ENDPOINT.replace("[[encoder.files]]", &table);
        assert_eq!(fingerprint(&registered), Some("ab".repeat(32)));
        let version_of_it = ModelVersion::from_toml(&registered).unwrap();
        assert_eq!(version_of_it.to_toml(), registered);

        let other = ENDPOINT.replace("\"query: \"", "\"question: \"");
        let other = ModelVersion::from_toml(&other).unwrap();
        let tower = ModelVersion::from_toml(EXAMPLE).unwrap();
        assert!(version.prepares_like(&version));
        assert!(!version.prepares_like(&other) && !version.prepares_like(&tower));
    }

    #[test]
    fn wrong_values_of_an_embedding_service_name_their_key() {
        for (from, to, key) in [
            ("kind = \"endpoint\"", "kind = \"onnx\"", "encoder.endpoint"),
            ("retries = 2", "retries = 99", "encoder.endpoint"),
            ("dim = 4", "dim = 65537", "dim"),
            ("canaries.safetensors", "model.onnx", "encoder.files"),
            (
                "[[encoder.files]]",
                "[encoder.head]\nfile = \"canaries.safetensors\"\ninputs = 4\n\n[encoder.head.classifier]\nkind = \"linear\"\nclasses = 1\n\
                 pretrained_classes = 0\n\n[[encoder.files]]",
                "encoder.head",
            ),
        ] {
            assert!(ENDPOINT.contains(from), "{from}");
            let error = ModelVersion::from_toml(&ENDPOINT.replacen(from, to, 1)).unwrap_err();
            let error = error.to_string();
            assert!(error.starts_with(&format!("{key}: ")), "{to}: {error}");
        }
        // A key that was written in the place of its name is not repeated.
        let secret = ENDPOINT.replace("env:EMBEDDING_KEY", "sk-123");
        let error = ModelVersion::from_toml(&secret).unwrap_err().to_string();
        assert!(!error.contains("sk-123"), "{error}");
        let missing = ENDPOINT
            .split("[encoder.endpoint]")
            .next()
            .unwrap()
            .to_owned()
            + "[[encoder.files]]"
            + ENDPOINT.split("[[encoder.files]]").nth(1).unwrap();
        let error = ModelVersion::from_toml(&missing).unwrap_err().to_string();
        assert!(error.starts_with("encoder.endpoint: "), "{error}");
    }

    #[test]
    fn the_space_depends_on_the_whole_table() {
        let version = ModelVersion::from_toml(EXAMPLE).unwrap();
        let other = EXAMPLE.replace("\"query: \"", "\"question: \"");
        let other = ModelVersion::from_toml(&other).unwrap();
        assert_ne!(version.space().fingerprint, other.space().fingerprint);
        assert!(version.prepares_like(&version) && !version.prepares_like(&other));
    }
}
