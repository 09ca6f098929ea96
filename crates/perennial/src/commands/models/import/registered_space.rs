//! Whether an embedding service gives the embeddings of a registered space.

use perennial_core::{Endpoint, EndpointSpace, Modality, Registry, SpaceSpec};
use perennial_encode::endpoint::EndpointEncoder;
use perennial_encode::{Encoder, Input, InputType, Prepared};
use perennial_upgrade::{CANARY_TOLERANCE, Canaries, CanaryInputs};

use crate::exit_status::usage;

/// Embeds the inputs of a space's canaries by the service and compares them with what was registered.
///
/// **Errors**: a space without canaries or of another dimension, another number of inputs, a service that fails, and one that gives other embeddings.
pub fn recognise(
    inputs: CanaryInputs,
    endpoint: &Endpoint,
    dim: usize,
    registry: &Registry,
    spec: &SpaceSpec,
) -> anyhow::Result<EndpointSpace> {
    let name = &spec.name;
    let canaries = Canaries::of(registry, spec)?;
    let (Some(canaries), Some(fingerprint)) = (canaries, &spec.canaries_sha256) else {
        return Err(usage(format!(
            "--space {name}: it was registered without canaries, so nothing tells whether these are its embeddings; register it with `perennial \
                 spaces add --canaries FILE`"
        )));
    };
    if spec.modality != Modality::Text {
        return Err(usage(format!(
            "--space {name}: its encoder embeds no texts; register the space with --modality text"
        )));
    }
    if spec.dim != dim {
        return Err(usage(format!(
            "--space {name}: its embeddings have {} dimensions, those of {} have {dim}",
            spec.dim, endpoint.url
        )));
    }
    let inputs = inputs
        .of_space(name, &canaries)
        .map_err(|error| usage(error.to_string()))?;
    let distance = canaries.largest_distance(&embed(&inputs, endpoint, dim)?, dim)?;
    // What the version allows later may be more; what it is recognised by is not.
    let allowed = endpoint.tolerance.min(CANARY_TOLERANCE);
    if distance > allowed {
        anyhow::bail!(
            "{} does not give the embeddings of space {name}: those of its canaries are apart by up to {distance:.3}, and {allowed} are allowed; import it \
                 without --space, as an encoder of its own",
            endpoint.url
        );
    }
    Ok(EndpointSpace {
        name: name.clone(),
        fingerprint: fingerprint.clone(),
    })
}

/// The inputs are as they were when the space was registered, so they get no prefix.
fn embed(inputs: &[String], endpoint: &Endpoint, dim: usize) -> anyhow::Result<Vec<f32>> {
    let plain = Endpoint {
        query_prefix: String::new(),
        document_prefix: String::new(),
        ..endpoint.clone()
    };
    let encoder = EndpointEncoder::new("the service", dim, &plain).map_err(anyhow::Error::msg)?;
    let prepared = inputs.iter().map(|text| {
        encoder.prepare(Input::Text {
            text,
            input_type: InputType::Document,
        })
    });
    let prepared: Vec<Prepared> = prepared.collect::<Result<_, _>>()?;
    Ok(encoder.encode(&prepared)?)
}
