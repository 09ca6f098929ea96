//! Who answers a request: found by its model and its type of input, and by what is live and certified at the moment.

use std::sync::Arc;

use perennial_bridge::Bridge;
use perennial_encode::InputType;
use perennial_upgrade::{Certification, CertifiedWay};
use serde_json::json;

use super::{Answering, Choice, Encoder, Kinds, Target};
use crate::error::ApiError;
use crate::incompatible::incompatible;
use crate::inference::Inference;

impl Answering {
    /// Decides who answers; may look at files. `model` is the name in the request, without which the default encoder answers.
    ///
    /// # Errors
    /// 404 for a name that nobody answers to, 422 for a name and a type that contradict one another and for inputs that neither encoder embeds, 409 for
    /// queries without a certified route, 503 without a live version.
    pub(crate) fn choose(
        &self,
        model: Option<&str>,
        input_type: Option<InputType>,
        kinds: Kinds,
    ) -> Result<Choice, ApiError> {
        let (model, of_name) = self.without_suffix(model);
        if let (Some(of_name), Some(input_type)) = (of_name, input_type)
            && of_name != input_type
        {
            return Err(ApiError::unprocessable(
                "the model's name and the field that tells queries and documents apart contradict one another; send one of them",
            ));
        }
        let input_type = input_type.or(of_name).unwrap_or(self.default_input_type);
        match &self.target {
            Some(target) => {
                if let Some(model) = model
                    && !self.is_known(model)
                {
                    return Err(self.unknown(model));
                }
                target.choose(
                    &self.inference,
                    &self.gallery.certification,
                    input_type,
                    kinds,
                )
            }
            None => {
                let encoder = self.encoder(model)?;
                Ok(Choice::alone(encoder, input_type))
            }
        }
    }
}

impl Target {
    /// The bridge of the best certified route that needs no old encoder.
    fn bridge_alone(&self, new: &Encoder, certification: &Certification) -> Option<Arc<Bridge>> {
        let ways = certification.ways(new.space(), self.space.as_str()).ok()?;
        let leading = ways.into_iter().map(|certified| certified.way);
        let mut leading = leading.filter(|way| way.leads(new.dim(), self.dim));
        leading.find_map(|way| match way {
            CertifiedWay::Bridged(bridge) => Some(bridge),
            _ => None,
        })
    }

    fn choose(
        &self,
        inference: &Inference,
        certification: &Certification,
        input_type: InputType,
        kinds: Kinds,
    ) -> Result<Choice, ApiError> {
        let old = self.old.clone();
        let absence = Arc::clone(&self.absence);
        if input_type == InputType::Document {
            return Ok(Choice::document(old, absence));
        }
        let new = self.new_encoder(inference).ok_or_else(|| {
            ApiError::unavailable("no model version is live; PUT /aliases/live names one")
        })?;
        if !new.embeds(kinds) {
            // Of this kind, there is nothing to be gained from the new encoder.
            return match old.embeds(kinds) {
                true => Ok(Choice::by_old(old, absence)),
                false => Err(ApiError::unprocessable(format!(
                    "neither {} nor {} embeds {}",
                    old.space(),
                    new.space(),
                    kinds.words()
                ))
                .with_details(json!({ "param": "input" }))),
            };
        }
        let route = self
            .route(new.space(), new.dim(), certification, Some(kinds))
            .map_err(|refused| incompatible(&[refused]))?;
        Ok(match route.map(|certified| certified.way) {
            // Mapped vectors are another index's, which no answer is for.
            None | Some(CertifiedWay::Mapped(_)) => Choice::by_old(old, absence),
            Some(CertifiedWay::Own) => Choice::own(self.space.as_str(), new),
            Some(CertifiedWay::Bridged(bridge)) => {
                Choice::bridged(self.space.as_str(), new, bridge)
            }
            Some(CertifiedWay::Dual { bridge, weight }) => {
                let without_old = self.bridge_alone(&new, certification);
                let encoders = [old, new];
                let dual = (bridge, weight);
                Choice::dual(self.space.as_str(), encoders, dual, absence, without_old)
            }
        })
    }
}
