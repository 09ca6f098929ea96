//! The ways that certificates open, under a policy.

use std::sync::Arc;

use super::known_bridges::KnownBridges;
use super::pair::Pair;
use crate::bridge_map::BridgeMap;
use crate::certificate::Certificate;
use crate::certification::{Certified, CertifiedWay};
use crate::expected_quality::ExpectedQuality;
use crate::finding::Finding;
use crate::policy::{Policy, Undecided};
use crate::route::Route;
use crate::stored_certificates::{StoredCertificates, short, under_policy};
use crate::thresholds::Thresholds;

/// A certified way, with what it is ranked by.
pub(super) struct Ranked {
    pub(super) certified: Certified,
    /// The smallest margin of the measures that decide, a difference of fractions.
    pub(super) margin: f64,
    /// By a compatibility record: of nearest class means alone, where certificates measure first hits and rankings too. The margins of both do not compare.
    pub(super) by_record: bool,
}

/// A way whose certificate or bridge is not there any more.
pub(super) struct LostWay {
    pub(super) undecided: bool,
    pub(super) margin: f64,
    /// Which file is missing, and what to do.
    pub(super) reason: String,
}

impl Ranked {
    /// What comes before margins in the order of ways: those beyond doubt, and of these those of certificates, are first.
    pub(super) fn knowledge(&self) -> (bool, bool) {
        (self.certified.undecided, self.by_record)
    }
}

impl LostWay {
    /// As [`Ranked::knowledge`]; only certificates are lost.
    pub(super) fn knowledge(&self) -> (bool, bool) {
        (self.undecided, false)
    }
}

/// Why a certificate opens no way.
enum Closed {
    /// What it says, or that it does not say it about this pair.
    Refused(String),
    /// It would, but for its bridge.
    Lost(LostWay),
}

impl From<String> for Closed {
    fn from(reason: String) -> Self {
        Self::Refused(reason)
    }
}

/// What the certificates of a pair say.
#[derive(Default)]
pub(super) struct CertifiedRoutes {
    pub(super) ways: Vec<Ranked>,
    /// Why the other certificates do not count.
    pub(super) reasons: Vec<String>,
    /// The ways among these that only a missing file closes.
    pub(super) lost: Vec<LostWay>,
    /// Whether a certificate of route own was measured, whatever it says: compatibility records then have no say.
    pub(super) own_measured: bool,
}

impl CertifiedRoutes {
    /// Of the newest certificate of every way.
    pub(super) fn of(
        certificates: &StoredCertificates,
        policy: &Policy,
        pair: &Pair,
        bridges: &mut KnownBridges,
    ) -> Self {
        let mut found = Self::default();
        let (query, gallery) = (&pair.query.space, &pair.gallery.space);
        let of_pair = certificates.of_pair(query, gallery, policy.task);
        // A policy that names an evaluation set by name can be met only by records, which carry such names.
        if policy.evaluation_set.is_some() {
            if !of_pair.is_empty() {
                found.reasons.push(
                    "the policy names an evaluation set, which only compatibility records can meet, so certificates do not count"
                        .to_owned(),
                );
            }
            return found;
        }
        for certificate in of_pair {
            found.own_measured |= certificate.route == Route::Own;
            match consider(certificate, policy, pair, bridges) {
                Ok(ranked) => found.ways.push(ranked),
                Err(Closed::Refused(reason)) => found.reasons.push(reason),
                Err(Closed::Lost(lost)) => {
                    found.reasons.push(lost.reason.clone());
                    found.lost.push(lost);
                }
            }
        }
        for lost in certificates.lost_of_pair(query, gallery, policy.task) {
            found.reasons.push(lost.reason());
            found.lost.extend(lost.certificate().and_then(|was| {
                let judged = under_policy(was, policy)?;
                is_allowed(judged.finding, policy).map(|undecided| LostWay {
                    undecided,
                    margin: judged.margin,
                    reason: lost.reason(),
                })
            }));
        }
        if found.ways.is_empty() && found.reasons.is_empty() {
            // A certificate is bound to fingerprints, which such a space does not have.
            for end in [&pair.query, &pair.gallery] {
                if end.space.fingerprint.is_none() {
                    found.reasons.push(format!(
                        "space {} has no canaries, so no certificate can be bound to it; register it with `perennial spaces add --canaries`",
                        end.name
                    ));
                }
            }
        }
        found
    }
}

/// The way of a certificate, or why it does not count.
fn consider(
    certificate: &Certificate,
    policy: &Policy,
    pair: &Pair,
    bridges: &mut KnownBridges,
) -> Result<Ranked, Closed> {
    let name = short(certificate);
    let refused = |problem: &str| Err(format!("certificate {name}: {problem}").into());
    if let Some(obstacle) = certificate.obstacle() {
        return refused(&obstacle);
    }
    if let Route::Dual { weight } = certificate.route
        && !(0.0..=1.0).contains(&weight)
    {
        return refused("its weight is not between 0 and 1; certify again");
    }
    let judged = under_policy(certificate, policy).ok_or_else(|| {
        format!(
            "certificate {name}: does not measure {} retrieval",
            policy.task
        )
    })?;
    let Some(undecided) = is_allowed(judged.finding, policy) else {
        return Err(format!("route {}: {}", certificate.route, judged.basis).into());
    };
    let way = match certificate.route {
        Route::Bridged | Route::Dual { .. } | Route::Mapped => {
            let Some(used) = &certificate.bridge else {
                return refused("it does not say which bridge was measured; certify again");
            };
            let bridge = bridges.get(&used.sha256).map_err(|problem| {
                Closed::Lost(LostWay {
                    undecided,
                    margin: judged.margin,
                    reason: format!("certificate {name}: {problem}"),
                })
            })?;
            let (from, to, direction) = match certificate.route {
                Route::Mapped => (
                    &pair.gallery,
                    &pair.query,
                    "from the old space to the new one",
                ),
                _ => (
                    &pair.query,
                    &pair.gallery,
                    "from the new space to the old one",
                ),
            };
            for (end, space) in [(bridge.from(), from), (bridge.to(), to)] {
                if let Err(problem) = end.accept(&space.space) {
                    return Err(format!(
                        "certificate {name}: its bridge, sha256 {}, leads from {} to {}, not from {} to {}: {problem}; certify again with a bridge \
                         {direction}",
                        &used.sha256,
                        bridge.from(),
                        bridge.to(),
                        from.name,
                        to.name
                    )
                    .into());
                }
            }
            match certificate.route {
                Route::Mapped => CertifiedWay::Mapped(Arc::new(BridgeMap::new(bridge))),
                Route::Dual { weight } => CertifiedWay::Dual { bridge, weight },
                _ => CertifiedWay::Bridged(bridge),
            }
        }
        Route::Own => CertifiedWay::Own,
    };
    let result = certificate.task(policy.task);
    Ok(Ranked {
        margin: judged.margin,
        by_record: false,
        certified: Certified {
            undecided,
            thresholds: result.and_then(|result| result.thresholds.clone()),
            merge: result.and_then(|result| result.merge),
            expected: result.map_or_else(Vec::new, |result| {
                ExpectedQuality::of_route(result, policy.confidence)
            }),
            ..Certified::through(way, judged.basis)
        },
    })
}

/// Whether a finding is enough under a policy, and if so, whether it is undecided.
fn is_allowed(finding: Finding, policy: &Policy) -> Option<bool> {
    match (finding, policy.undecided) {
        (Finding::Compatible, _) => Some(false),
        (Finding::Undecided, Undecided::Warn) => Some(true),
        _ => None,
    }
}

/// What was measured of a space's own queries on its own items, from the newest certificate that has it.
pub(super) fn own_quality(
    certificates: &StoredCertificates,
    policy: &Policy,
    fingerprint: &str,
) -> Vec<ExpectedQuality> {
    let found = certificates.iter().filter_map(|certificate| {
        let of_space = certificate.query_space.fingerprint.as_deref() == Some(fingerprint);
        let result = certificate.task(policy.task).filter(|_| of_space)?;
        let own = ExpectedQuality::of_new_self(result, policy.confidence);
        (!own.is_empty()).then_some((&certificate.created, certificate.sha256(), own))
    });
    let newest = found.max_by_key(|(created, sha256, _)| (*created, sha256.to_owned()));
    newest.map_or_else(Vec::new, |(_, _, own)| own)
}

/// The thresholds of a space's own queries, from the newest certificate that has them.
pub(super) fn own_thresholds(
    certificates: &StoredCertificates,
    policy: &Policy,
    fingerprint: &str,
) -> Option<Thresholds> {
    let of_space =
        |space: &perennial_core::SpaceRef| space.fingerprint.as_deref() == Some(fingerprint);
    let found = certificates.iter().filter_map(|certificate| {
        let result = certificate.task(policy.task)?;
        let own = match of_space(&certificate.query_space) {
            true => &result.new_self_thresholds,
            false if of_space(&certificate.gallery_space) => &result.old_self_thresholds,
            false => &None,
        };
        Some((&certificate.created, certificate.sha256(), own.as_ref()?))
    });
    let newest = found.max_by_key(|&(created, sha256, _)| (created, sha256));
    newest.map(|(_, _, thresholds)| thresholds.clone())
}
