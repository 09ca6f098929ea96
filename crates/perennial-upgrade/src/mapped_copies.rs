//! Whether stored vectors may be searched through copies that a bridge mapped into the new space.
//!
//! An index that others own may be given such copies beside its vectors, where a certificate says that they are good enough for what is searched
//! for. A gallery in a folder has no use for this: it keeps mapped vectors in memory, and searches them as any other certified way.

use perennial_bridge::Bridge;
use thiserror::Error;

use crate::certificate::Certificate;
use crate::finding::Finding;
use crate::policy::{Policy, Undecided};
use crate::route::Route;
use crate::stored_certificates::{StoredCertificates, short, under_policy};

/// Mapped copies that nothing certifies.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("mapped copies are not certified: {0}")]
pub struct MappedRefused(String);

/// Mapped copies that a certificate allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappedPermission {
    /// The measurement, as text.
    pub basis: String,
    /// Whether it is undecided, which the policy allows with a warning.
    pub undecided: bool,
    /// The hash of the certificate.
    pub certificate: String,
}

impl MappedPermission {
    /// Takes a certificate of route mapped for exactly this bridge that passes the policy, for the policy's task.
    ///
    /// A certificate is bound to a bridge by the hash of its content. The policy's evaluation set plays no part: certificates do not carry
    /// names of image sets.
    ///
    /// # Errors
    /// A certificate of another route, of another bridge, of another kind of retrieval, or of too small a margin.
    pub fn of(
        certificate: &Certificate,
        bridge: &Bridge,
        policy: &Policy,
    ) -> Result<Self, MappedRefused> {
        let name = short(certificate);
        let refused = |problem: String| Err(MappedRefused(problem));
        if certificate.route != Route::Mapped {
            return refused(format!(
                "certificate {name} is of route {}; certify again with --route mapped",
                certificate.route
            ));
        }
        let sha256 = bridge.sha256();
        match &certificate.bridge {
            Some(used) if used.sha256 == sha256 => {}
            Some(used) => {
                return refused(format!(
                    "certificate {name} is for the bridge {}, and this one is {sha256}; pass the bridge that was certified, or certify this one",
                    used.sha256
                ));
            }
            None => {
                return refused(format!(
                    "certificate {name} does not say which bridge was measured; certify again"
                ));
            }
        }
        if let Some(problem) = certificate.few_resamples() {
            return refused(format!("certificate {name}: {problem}"));
        }
        let Some(judged) = under_policy(certificate, policy) else {
            return refused(format!(
                "certificate {name} does not measure {} retrieval",
                policy.task
            ));
        };
        let undecided = match (judged.finding, policy.undecided) {
            (Finding::Compatible, _) => false,
            (Finding::Undecided, Undecided::Warn) => true,
            _ => return refused(judged.basis),
        };
        Ok(Self {
            basis: judged.basis,
            undecided,
            certificate: certificate.sha256().to_owned(),
        })
    }

    /// The newest certificate of route mapped for exactly this bridge and the policy's task in a registry, with what follows from it. A newer
    /// measurement counts, also where an older one would allow more.
    pub fn recorded<'a>(
        certificates: &'a StoredCertificates,
        bridge: &Bridge,
        policy: &Policy,
    ) -> Option<(&'a Certificate, Result<Self, MappedRefused>)> {
        let sha256 = bridge.sha256();
        let of_bridge = certificates.iter().filter(|certificate| {
            let used = certificate.bridge.as_ref();
            certificate.route == Route::Mapped
                && used.is_some_and(|used| used.sha256 == sha256)
                && certificate.task(policy.task).is_some()
        });
        // The hash only so that the order of files does not matter.
        let newest = of_bridge.max_by_key(|one| (&one.created, one.sha256()))?;
        Some((newest, Self::of(newest, bridge, policy)))
    }
}

#[cfg(test)]
mod tests {
    use perennial_bridge::{Index, Pairs, Recipe, fit};
    use perennial_core::SpaceRef;

    use super::*;
    use crate::certificate::Sources;
    use crate::certify::CertificateRequest;
    use crate::evaluation_data::{EvaluationData, Names, Rows, Task, Truth};
    use crate::measured::Demands;
    use crate::route::Search;

    /// Three classes on the axes of two planes; the old encoder is wrong for every fourth query.
    fn vectors(count: usize, wrong: bool) -> Vec<f32> {
        let row = |row: usize| {
            let class = if wrong && row.is_multiple_of(4) {
                row + 1
            } else {
                row
            } % 3;
            let angle = class as f32 * 2.0 + (row % 7) as f32 * 0.01;
            [angle.cos(), angle.sin()]
        };
        (0..count).flat_map(row).collect()
    }

    fn certificate(bridge: &Bridge, route: Route) -> Certificate {
        let rows = |values| Rows {
            values,
            dim: 2,
            space: SpaceRef::unnamed(2),
        };
        let classes = |count: u32| (0..count).map(|row| row % 3).collect();
        let data = EvaluationData {
            old_queries: rows(vectors(120, true)),
            old_gallery: rows(vectors(60, false)),
            new_queries: rows(vectors(120, false)),
            new_gallery: None,
            truths: vec![Truth::Classes {
                queries: classes(120),
                gallery: classes(60),
            }],
            own: None,
            names: Names::default(),
        };
        let request = CertificateRequest {
            data: &data,
            search: Search::through(bridge, route, Index::Centred),
            demands: Demands::new(1),
            sources: Sources::default(),
            created: "2026-11-25T00:00:00Z".to_owned(),
        };
        request.run().unwrap()
    }

    fn bridge(recipe: &Recipe) -> Bridge {
        // Other rows than those of the evaluation set, which would otherwise be able to tell nothing.
        let rows: Vec<f32> = vectors(90, false)
            .chunks_exact(2)
            .flat_map(|row| [row[0] * 1.5, row[1] * 1.5])
            .collect();
        let pairs = Pairs::new(&rows, 2, &rows, 2).unwrap();
        fit(&pairs, recipe, SpaceRef::unnamed(2), SpaceRef::unnamed(2)).unwrap()
    }

    #[test]
    fn only_the_certified_bridge_may_map_and_only_for_its_task() {
        let certified = bridge(&Recipe::Orthogonal);
        let policy = Policy::default();
        let mapped = certificate(&certified, Route::Mapped);
        let permission = MappedPermission::of(&mapped, &certified, &policy).unwrap();
        assert!(!permission.undecided && permission.basis.contains("compatible"));
        assert_eq!(permission.certificate, mapped.sha256());

        let refused = |certificate: &Certificate, bridge: &Bridge, policy: &Policy| {
            let error = MappedPermission::of(certificate, bridge, policy).unwrap_err();
            error.to_string()
        };
        let bridged = certificate(&certified, Route::Bridged);
        let error = refused(&bridged, &certified, &policy);
        assert!(error.contains("--route mapped"), "{error}");
        let error = refused(&mapped, &bridge(&Recipe::Identity), &policy);
        assert!(error.contains("is for the bridge"), "{error}");
        let item_like = Policy {
            task: Task::ItemLike,
            ..Policy::default()
        };
        let error = refused(&mapped, &certified, &item_like);
        assert!(error.contains("item-like"), "{error}");
        let demanding = Policy {
            min_margin: 0.9,
            ..Policy::default()
        };
        let error = refused(&mapped, &certified, &demanding);
        assert!(error.contains("incompatible"), "{error}");
    }
}
