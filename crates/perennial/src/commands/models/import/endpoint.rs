//! Importing an embedding service: a version whose encoder is asked over HTTP.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use perennial_core::outside_encoder::CANARY_FILE;
use perennial_core::{
    EncoderFile, EncoderKind, Endpoint, EndpointApi, EndpointKey, Modality, OutsideEncoder, Role,
    SpaceId, VersionDraft, VersionEncoder,
};
use perennial_encode::endpoint::EndpointEncoder;
use perennial_upgrade::CanaryInputs;
use serde::Serialize;

use super::outside::OutsideArguments;
use super::registered_space::recognise;
use super::whole_number::within;
use crate::arguments::GlobalArguments;
use crate::exit_status::{ExitStatus, usage};
use crate::outside_publishing::publish_outside;
use crate::terminal::Terminal;

/// Options about files, which such a version has none of.
const OF_FILES: [&str; 19] = [
    "file",
    "key",
    "backbone",
    "stem",
    "width",
    "vertices",
    "vertex_end",
    "classes",
    "pretrained_classes",
    "preprocess",
    "graph",
    "output",
    "pooling",
    "tokenizer",
    "max_tokens",
    "size",
    "mean",
    "std",
    "normalization",
];

/// How an embedding service is reached.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Embedding services (--endpoint)")]
#[group(requires = "endpoint", conflicts_with_all = OF_FILES)]
pub struct EndpointArguments {
    /// Address in front of /embeddings (openai) or of /embed (tei), such as https://host/v1
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// Protocol of the service
    #[arg(long, value_enum, default_value = "openai")]
    api: ApiArgument,
    /// Name of its model
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Where the key is that it is shown: env:NAME or file:PATH. The key itself is written nowhere [default: none]
    #[arg(long, value_name = "PLACE")]
    endpoint_key: Option<String>,
    /// Additional CA certificates (PEM) to trust for its TLS certificate
    #[arg(long, value_name = "FILE")]
    endpoint_ca: Option<PathBuf>,
    /// Dimension that is sent with every request, for models whose embeddings can be shortened; with openai
    #[arg(long, value_name = "VALUES", value_parser = within::<1, 65_536>)]
    dimensions: Option<usize>,
    /// Distance by which the embedding of the same text may differ from one time to another [default: 0.01]
    #[arg(long, value_name = "DISTANCE")]
    tolerance: Option<f64>,
    /// Time from a request to its answer, repetitions included, in seconds [default: 20]
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<f64>,
    /// Repetitions of a request that failed in a way that may pass [default: 2]
    #[arg(long, value_name = "TIMES")]
    retries: Option<u32>,
    /// Concurrent requests [default: 8]
    #[arg(long, value_name = "REQUESTS")]
    max_in_flight: Option<usize>,
    /// Texts of one request [default: 32]
    #[arg(long, value_name = "TEXTS")]
    inputs_per_request: Option<usize>,
    /// Registered space (`perennial spaces add --canaries`) that its embeddings are of: bridges and certificates of the space hold for the version
    #[arg(long, value_name = "SPACE", requires = "canary_inputs")]
    space: Option<SpaceId>,
    /// Inputs of the space's canaries, one a line, in the order in which their embeddings were registered
    #[arg(long, value_name = "FILE", requires = "space")]
    canary_inputs: Option<PathBuf>,
}

/// Protocol of an embedding service.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ApiArgument {
    /// POST /embeddings, as OpenAI and many others have it
    Openai,
    /// POST /embed of text-embeddings-inference
    Tei,
}

#[derive(Serialize)]
struct Answer<'a> {
    version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    alias: Option<&'a str>,
    endpoint: &'a str,
    api: EndpointApi,
    model: &'a str,
    kind: EncoderKind,
    accepts: &'static [Modality],
    dim: usize,
    tolerance: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    space: Option<&'a str>,
    files: &'a [EncoderFile],
    weights_sha256: &'a str,
}

impl EndpointArguments {
    /// The address, where there is one.
    pub fn url(&self) -> Option<&str> {
        self.endpoint.as_deref()
    }

    fn endpoint(&self, url: &str, outside: &OutsideArguments) -> anyhow::Result<Endpoint> {
        let model = self.model.as_deref().ok_or_else(|| {
            usage("--endpoint: pass the name of its model as well, with --model NAME")
        })?;
        let api = match self.api {
            ApiArgument::Openai => EndpointApi::Openai,
            ApiArgument::Tei => EndpointApi::Tei,
        };
        let mut endpoint = Endpoint::new(api, url, model);
        if let Some(key) = &self.endpoint_key {
            let key = EndpointKey::try_from(key.clone())
                .map_err(|problem| usage(format!("--endpoint-key {problem}")))?;
            endpoint.key = match key {
                // The registry is used from other folders than this one.
                EndpointKey::File(path) => EndpointKey::File(std::path::absolute(path)?),
                key => key,
            };
        }
        if let Some(ca) = &self.endpoint_ca {
            endpoint.ca = Some(std::path::absolute(ca)?);
        }
        endpoint.send_dimensions = self.dimensions.is_some();
        for (prefix, given) in [
            (&mut endpoint.query_prefix, &outside.query_prefix),
            (&mut endpoint.document_prefix, &outside.document_prefix),
        ] {
            prefix.clone_from(given.as_ref().unwrap_or(&String::new()));
        }
        endpoint.tolerance = self.tolerance.unwrap_or(endpoint.tolerance);
        endpoint.timeout_seconds = self.timeout.unwrap_or(endpoint.timeout_seconds);
        endpoint.retries = self.retries.unwrap_or(endpoint.retries);
        endpoint.max_in_flight = self.max_in_flight.unwrap_or(endpoint.max_in_flight);
        let inputs = self.inputs_per_request;
        endpoint.inputs_per_request = inputs.unwrap_or(endpoint.inputs_per_request);
        endpoint
            .check()
            .map_err(|(key, problem)| usage(format!("--endpoint {url}: {key} {problem}")))?;
        Ok(endpoint)
    }
}

pub fn run(
    url: &str,
    arguments: &EndpointArguments,
    outside: &OutsideArguments,
    alias: Option<&str>,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    let mut endpoint = arguments.endpoint(url, outside)?;
    let dim = match arguments.dimensions {
        Some(dim) => dim,
        None => EndpointEncoder::dimension(&endpoint).map_err(anyhow::Error::msg)?,
    };
    let registry = global.create_registry()?;
    if let (Some(space), Some(inputs)) = (&arguments.space, &arguments.canary_inputs) {
        let spec = registry.space(space)?;
        let inputs = CanaryInputs::read(inputs).map_err(|error| usage(error.to_string()))?;
        endpoint.space = Some(recognise(inputs, &endpoint, dim, &registry, &spec)?);
    }
    let draft = draft(&endpoint, dim, outside.origin.as_deref());
    let version = publish_outside(&registry, draft, Vec::new(), url, global)?;
    if let Some(alias) = alias {
        registry.set_alias(alias, &version.name)?;
    }
    let Some(outside) = version.outside() else {
        anyhow::bail!("{} was published without its encoder", version.name);
    };
    let answer = Answer {
        version: &version.name,
        alias,
        endpoint: url,
        api: endpoint.api,
        model: &endpoint.model,
        kind: outside.kind,
        accepts: version.accepts(),
        dim: version.dim,
        tolerance: endpoint.tolerance,
        space: arguments.space.as_ref().map(SpaceId::as_str),
        files: &outside.files,
        weights_sha256: &version.weights_sha256,
    };
    let registry = global.registry.as_path();
    terminal.result(&answer, |_| text(&answer, registry))?;
    Ok(ExitStatus::Done)
}

fn draft(endpoint: &Endpoint, dim: usize, origin: Option<&str>) -> VersionDraft {
    let data = origin.map_or_else(
        || format!("the embedding service of {}", endpoint.model),
        str::to_owned,
    );
    VersionDraft {
        dim,
        encoder: VersionEncoder::Outside(OutsideEncoder {
            kind: EncoderKind::Endpoint,
            image: None,
            text: None,
            head: None,
            endpoint: Some(Box::new(endpoint.clone())),
            files: Vec::new(),
        }),
        centred: false,
        parent: None,
        role: Role::Imported,
        method: "endpoint".to_owned(),
        data,
        seed: 0,
        created: perennial_train::now(),
    }
}

fn text(answer: &Answer<'_>, registry: &Path) -> String {
    let space = match answer.space {
        Some(space) => format!(
            "its embeddings are those of space {space}: bridges and certificates of that space hold for {}",
            answer.version
        ),
        None => "its space is its own: measure routes from and to it with `perennial certify`"
            .to_owned(),
    };
    let described = registry.join(answer.version).join("model.toml");
    [
        format!(
            "{} from {}: embeds texts by model {}, dimension {}",
            answer.version, answer.endpoint, answer.model, answer.dim
        ),
        format!(
            "canaries: embeddings of fixed texts, recorded in {CANARY_FILE} and compared at every load, within {}",
            answer.tolerance
        ),
        space,
        format!(
            "address, key and limits of requests are in {} and may be changed there; the key itself is not stored",
            described.display()
        ),
    ]
    .join("\n")
}
