//! Which of a checkpoint's tensors are the network's weights, and what they are called here.
//!
//! The places are found by the names inside of a network, which the table of backbones knows (`layer1.0.…` of a ResNet): whatever
//! stands in front of these is a wrapper, of whichever tool and in whichever order - `state_dict`, `model`, `net`, `module`
//! (DataParallel, averaged weights), `_orig_mod` (torch.compile), `backbone`. Where several places hold a network, the caller
//! has to name one.

use std::collections::BTreeMap;

use perennial_core::Simplex;

use super::candidate::{Candidate, TOP_LEVEL};
use super::error::ImportError;
use super::file::{CheckpointFile, NumberType};
use super::mismatch::{Mismatch, Shapes, list};
use super::places::{Places, belongs, is_optimizer_state, key_of, own_name, place};
use super::prototypes::is_simplex;
use super::shapes::backbone_shapes;
use crate::network::{BACKBONES, BackboneEntry, BackboneKind, NetworkConfig, Stem, supported};
use crate::state_dict::{StateDict, WeightsError, check_values};

/// The most networks in one file; bounds the time that a hostile file can cost.
const MAX_CANDIDATES: usize = 64;

/// The network's weights inside of a checkpoint.
#[derive(Clone, Debug)]
pub struct Selection<'a> {
    file: &'a CheckpointFile,
    /// The place, as [`Candidate::key`].
    pub key: String,
    backbone: BackboneKind,
    /// Names in the file by the network's own names.
    names: BTreeMap<String, String>,
    /// Whole numbers beside the weights, such as `num_batches_tracked`: no network here uses them.
    pub counters: Vec<String>,
    /// Floating-point tensors that are neither the network's nor an optimizer's.
    pub left_out: Vec<String>,
}

/// Properties of a network inferred from the shapes of its tensors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Inferred {
    /// Backbone, stem and width.
    pub network: NetworkConfig,
    /// Input channels.
    pub channels: usize,
    /// Rows of the linear classifier, if there is one.
    pub classifier_rows: Option<usize>,
}

impl CheckpointFile {
    /// Every place that holds a network, in the order of their names.
    ///
    /// # Errors
    ///
    /// More places than any file in use has.
    pub fn candidates(&self) -> Result<Vec<Candidate>, ImportError> {
        let mut places = Places::new();
        for name in self.headers().keys() {
            if let Some((prefix, pattern)) = place(name) {
                places
                    .entry(prefix)
                    .or_insert_with(|| self.network_at(prefix, pattern));
            }
        }
        if places.len() > MAX_CANDIDATES {
            return Err(ImportError::Unlike {
                source_name: self.name().to_owned(),
                problem: format!(
                    "it holds {} networks; at most {MAX_CANDIDATES} are supported",
                    places.len()
                ),
            });
        }
        let mut candidates: Vec<Candidate> = places
            .iter()
            .map(|(prefix, entry)| Candidate {
                key: key_of(prefix),
                tensors: self
                    .headers()
                    .iter()
                    .filter(|(name, header)| {
                        !matches!(header.number, NumberType::Integer(_))
                            && belongs(name, prefix, &places).is_some()
                    })
                    .count(),
                prefix: (*prefix).to_owned(),
                backbone: entry.kind,
            })
            .collect();
        // Keys must be unique to be selectable.
        for index in 0..candidates.len() {
            let key = candidates[index].key.clone();
            if candidates.iter().filter(|other| other.key == key).count() > 1 {
                for candidate in candidates.iter_mut().filter(|other| other.key == key) {
                    let whole = candidate.prefix.trim_end_matches('.');
                    candidate.key = if whole.is_empty() { TOP_LEVEL } else { whole }.to_owned();
                }
            }
        }
        Ok(candidates)
    }

    /// Chooses the weights: those below `key`, or the only ones that there are.
    ///
    /// # Errors
    ///
    /// No network, none below `key`, or several.
    pub fn select(&self, key: Option<&str>) -> Result<Selection<'_>, ImportError> {
        let all = self.candidates()?;
        let chosen: Vec<&Candidate> = match key {
            None => all.iter().collect(),
            Some(key) => {
                let exact = |candidate: &&Candidate| {
                    candidate.key == key || candidate.prefix.trim_end_matches('.') == key
                };
                match all.iter().find(exact) {
                    Some(candidate) => vec![candidate],
                    None => {
                        let below = format!("{key}.");
                        all.iter()
                            .filter(|candidate| candidate.prefix.starts_with(&below))
                            .collect()
                    }
                }
            }
        };
        match (chosen[..].first(), chosen.len()) {
            (Some(candidate), 1) => self.take(candidate, &all),
            (None, _) if all.is_empty() => Err(self.no_network()),
            (None, _) => Err(ImportError::UnknownKey {
                source_name: self.name().to_owned(),
                key: key.unwrap_or_default().to_owned(),
                candidates: all,
            }),
            _ => Err(ImportError::SeveralNetworks {
                source_name: self.name().to_owned(),
                candidates: chosen.into_iter().cloned().collect(),
            }),
        }
    }

    /// Which of the networks with such names it is.
    fn network_at(&self, prefix: &str, pattern: &str) -> &'static BackboneEntry {
        let alike = || {
            BACKBONES
                .iter()
                .filter(|entry| entry.keys.places.contains(&pattern))
        };
        let shown = |entry: &&BackboneEntry| {
            let sign = entry.keys.requires;
            sign.is_some_and(|name| self.headers().contains_key(&format!("{prefix}{name}")))
        };
        let plain = || alike().find(|entry| entry.keys.requires.is_none());
        let found = alike().find(shown).or_else(plain);
        found.expect("of networks with one beginning, one needs no further sign")
    }

    fn no_network(&self) -> ImportError {
        let names: Vec<String> = self.headers().keys().cloned().collect();
        ImportError::NoNetwork {
            source_name: self.name().to_owned(),
            tensors: names.len(),
            names: list(&names),
        }
    }

    fn take(&self, candidate: &Candidate, all: &[Candidate]) -> Result<Selection<'_>, ImportError> {
        let places: Places<'_> = all
            .iter()
            .map(|other| (other.prefix.as_str(), other.backbone.entry()))
            .collect();
        let mut selection = Selection {
            file: self,
            key: candidate.key.clone(),
            backbone: candidate.backbone,
            names: BTreeMap::new(),
            counters: Vec::new(),
            left_out: Vec::new(),
        };
        for (name, header) in self.headers() {
            match belongs(name, &candidate.prefix, &places) {
                Some(_) if matches!(header.number, NumberType::Integer(_)) => {
                    selection.counters.push(name.clone());
                }
                Some(own) => {
                    if let Some(other) = selection.names.insert(own.clone(), name.clone()) {
                        let problem = format!("both {other} and {name} map to the network's {own}");
                        return Err(WeightsError::Format {
                            source_name: self.name().to_owned(),
                            problem,
                        }
                        .into());
                    }
                }
                None => {
                    let other_network = places
                        .keys()
                        .any(|prefix| belongs(name, prefix, &places).is_some());
                    let weight = !matches!(header.number, NumberType::Integer(_))
                        && !header.shape.is_empty();
                    if weight && !other_network && !is_optimizer_state(name) {
                        selection.left_out.push(name.clone());
                    }
                }
            }
        }
        self.check(selection.names.values())?;
        Ok(selection)
    }
}

impl Selection<'_> {
    /// Tensors that belong to the network.
    pub fn tensors(&self) -> usize {
        self.names.len()
    }

    fn shape(&self, own: &str) -> Option<&[usize]> {
        let name = self.names.get(own)?;
        Some(&self.file.headers().get(name)?.shape)
    }

    /// Backbone, stem, width, channels and classifier, from the shapes of the first and the last layer.
    ///
    /// # Errors
    ///
    /// [`ImportError::Unlike`] for a ResNet of other depth, or a first layer that no network here has.
    pub fn infer(&self) -> Result<Inferred, ImportError> {
        let unlike = |problem: &str| {
            Err(ImportError::Unlike {
                source_name: self.file.name().to_owned(),
                problem: problem.to_owned(),
            })
        };
        let entry = self.backbone.entry();
        for (name, problem) in entry.keys.unlike {
            if self.names.contains_key(&own_name(name)) {
                return unlike(&format!("{problem}; supported are {}", supported()));
            }
        }
        let first = own_name(entry.keys.first);
        let Some(&[width, channels, height, columns]) = self.shape(&first) else {
            self.refuse_integers(&first)?;
            return unlike(&format!(
                "its first layer, {}, is missing or not a convolution",
                self.file_name(&first)
            ));
        };
        let is_kernel = |&&(_, side): &&(Stem, usize)| [side, side] == [height, columns];
        let Some(&(stem, _)) = entry.stems.iter().find(is_kernel) else {
            let known = entry
                .stems
                .iter()
                .map(|(stem, side)| format!("{side}x{side} (stem {})", stem.name()));
            return unlike(&format!(
                "its first layer, {}, is a convolution of {height}x{columns}; supported are {}",
                self.file_name(&first),
                known.collect::<Vec<_>>().join(" and ")
            ));
        };
        if !(1..=1024).contains(&width) || !width.is_multiple_of(entry.width_step) {
            let multiples = match entry.width_step {
                1 => String::new(),
                step => format!(" in steps of {step}"),
            };
            return unlike(&format!(
                "its first layer, {}, has {width} channels; supported are 1 to 1024{multiples}",
                self.file_name(&first)
            ));
        }
        let rows = self
            .shape("fc2.weight")
            .and_then(|shape| shape.first().copied());
        Ok(Inferred {
            network: NetworkConfig {
                backbone: self.backbone,
                stem,
                width,
            },
            channels,
            classifier_rows: rows.filter(|_| !self.names.contains_key("fc1.weight")),
        })
    }

    /// Height and width of the images that the network takes, where its weights are for one size alone.
    pub fn side(&self, network: &NetworkConfig) -> Option<usize> {
        let entry = network.backbone.entry();
        let &[_, tokens, _] = self.shape(&own_name(entry.positions?))? else {
            return None;
        };
        let (_, patch) = entry.stems.iter().find(|(stem, _)| *stem == network.stem)?;
        let patches = tokens.checked_sub(1)?;
        let side = patches.isqrt();
        (side > 0 && side * side == patches).then(|| side.saturating_mul(*patch))
    }

    /// The simplex that the checkpoint's embedding layer and frozen classifier show, or `None` for a network whose features are
    /// the embedding.
    ///
    /// # Errors
    ///
    /// [`ImportError::Vertices`] for an embedding layer without a classifier that would show its vertices, and
    /// [`WeightsError::NotSimplex`] for a classifier with other prototypes.
    pub fn simplex(&self) -> Result<Option<Simplex>, ImportError> {
        let Some(shape) = self.shape("fc1.weight") else {
            return Ok(None);
        };
        let rows = shape.first().copied().unwrap_or(0);
        if !self.names.contains_key("fc2.weight") {
            return Err(ImportError::Vertices {
                source_name: self.file.name().to_owned(),
                tensor: self.file_name("fc1.weight"),
                vertices: rows.saturating_add(1),
            });
        }
        let simplex = Simplex::new(rows.saturating_add(1)).map_err(|error| {
            ImportError::Weights(WeightsError::Format {
                source_name: self.file.name().to_owned(),
                problem: format!("tensor {}: {error}", self.file_name("fc1.weight")),
            })
        })?;
        self.check_prototypes(simplex)?;
        Ok(Some(simplex))
    }

    /// Compares the checkpoint's frozen classifier, if it has one, with the closed form.
    fn check_prototypes(&self, simplex: Simplex) -> Result<(), ImportError> {
        let Some(name) = self.names.get("fc2.weight") else {
            return Ok(());
        };
        let same = self.shape("fc2.weight") == Some(&[simplex.vertices(), simplex.dim()])
            && is_simplex(&self.file.read(name)?, simplex);
        if same {
            return Ok(());
        }
        Err(WeightsError::NotSimplex {
            name: name.clone(),
            vertices: simplex.vertices(),
        }
        .into())
    }

    /// Reads the weights for the given network, under its own names: all of them, and no others. A frozen simplex classifier is
    /// checked and left away.
    ///
    /// # Errors
    ///
    /// What is missing, not expected or misshapen, with the options that would fit; an unsupported number type; a value that
    /// is not finite; a negative variance.
    pub fn weights(
        &self,
        network: &NetworkConfig,
        channels: usize,
        simplex: Option<Simplex>,
    ) -> Result<StateDict, ImportError> {
        if let Some(simplex) = simplex {
            self.check_prototypes(simplex)?;
        }
        if let Some(mismatch) = self.mismatch(network, channels, simplex) {
            for own in &mismatch.missing {
                self.refuse_integers(own)?;
            }
            return Err(ImportError::Fit {
                source_name: self.file.name().to_owned(),
                mismatch: Box::new(mismatch.with_names_of_the_file(|own| self.file_name(own))),
                hint: self.hint(network, channels, simplex),
            });
        }
        let mut state = StateDict::new();
        for (own, name) in &self.names {
            if !(simplex.is_some() && own == "fc2.weight") {
                state.insert(own.clone(), self.file.read(name)?);
            }
        }
        check_values(&state).map_err(|error| error.with_name(|own| self.file_name(own)))?;
        Ok(state)
    }

    /// Reads every tensor, whatever network they belong to.
    ///
    /// # Errors
    ///
    /// A tensor that cannot be read.
    pub fn read_all(&self) -> Result<StateDict, ImportError> {
        let tensors = self
            .names
            .iter()
            .map(|(own, name)| Ok((own.clone(), self.file.read(name)?)));
        tensors.collect()
    }

    fn mismatch(
        &self,
        network: &NetworkConfig,
        channels: usize,
        simplex: Option<Simplex>,
    ) -> Option<Mismatch> {
        // What no image size fits is told by the difference from a usual one.
        let side = self.side(network).unwrap_or(32);
        let mut expected = backbone_shapes(network, [channels, side, side]);
        self.expect_head(&mut expected, network, simplex);
        let found = self.names.keys().filter_map(|own| {
            let frozen = simplex.is_some() && own == "fc2.weight";
            (!frozen).then_some((own, self.shape(own)?))
        });
        Mismatch::between(&expected, found)
    }

    fn expect_head(
        &self,
        expected: &mut Shapes,
        network: &NetworkConfig,
        simplex: Option<Simplex>,
    ) {
        let features = network.features();
        if let Some(simplex) = simplex {
            expected.insert("fc1.weight".to_owned(), vec![simplex.dim(), features]);
            if self.names.contains_key("fc1.bias") {
                expected.insert("fc1.bias".to_owned(), vec![simplex.dim()]);
            }
        } else if let Some(&[rows, _]) = self.shape("fc2.weight") {
            expected.insert("fc2.weight".to_owned(), vec![rows, features]);
            expected.insert("fc2.bias".to_owned(), vec![rows]);
        }
    }

    /// Refuses a weight that was stored as integers; otherwise it would be reported as missing.
    fn refuse_integers(&self, own: &str) -> Result<(), ImportError> {
        let end = own.trim_start_matches("backbone.");
        let stored = self.counters.iter().find(|name| name.ends_with(end));
        match stored.and_then(|name| Some((name, self.file.headers().get(name)?))) {
            Some((name, header)) => Err(WeightsError::Dtype {
                name: name.clone(),
                dtype: header.number.name().to_owned(),
            }
            .into()),
            None => Ok(()),
        }
    }

    /// Which options would fit, where some do.
    fn hint(
        &self,
        network: &NetworkConfig,
        channels: usize,
        simplex: Option<Simplex>,
    ) -> Option<String> {
        match self.infer() {
            Ok(inferred)
                if inferred.network != *network
                    && self
                        .mismatch(&inferred.network, channels, simplex)
                        .is_none() =>
            {
                Some(format!(
                    "the file fits {}",
                    network_options(&inferred.network)
                ))
            }
            Err(ImportError::Unlike { problem, .. }) => Some(problem),
            _ => None,
        }
    }

    fn file_name(&self, own: &str) -> String {
        self.names.get(own).map_or(own, String::as_str).to_owned()
    }
}

/// A network as the options that name it.
pub fn network_options(network: &NetworkConfig) -> String {
    let entry = network.backbone.entry();
    let stem = if entry.has_stems() {
        format!(" --stem {}", network.stem.name())
    } else {
        String::new()
    };
    format!("--backbone {}{stem} --width {}", entry.name, network.width)
}
