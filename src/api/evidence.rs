//! What an answer to one long number rests on: on the wire, and in JSON.

use std::borrow::Cow;

use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    prime::{Evidence, Number, Proof, ProofFactor, Witness},
    proto::{self, prime_response, witness::Kind},
};

// ── The wire ────────────────────────────────────────────────────────────────────────────────────────────────────

/// Nothing if it is of a kind that this version does not know.
pub fn evidence_from_wire(wire: prime_response::Evidence) -> Option<Evidence> {
    match wire {
        prime_response::Evidence::Proof(proof) => proof_from_wire(proof).map(Evidence::Proof),
        prime_response::Evidence::Witness(witness) => witness_from_wire(witness).map(Evidence::Witness),
    }
}

/// The same for a proof.
pub fn proof_from_wire(wire: proto::Proof) -> Option<Proof> {
    nested_from_wire(wire, Proof::DEPTH_MAX)
}

fn nested_from_wire(wire: proto::Proof, depth_max: usize) -> Option<Proof> {
    let (method, discriminant) = (wire.method(), wire.discriminant);
    if wire.factors.len() > Proof::FACTORS_MAX {
        return None;
    }
    let factors = wire.factors.into_iter().map(|factor| factor_from_wire(factor, depth_max));
    let factors: Option<Vec<ProofFactor>> = factors.collect();
    match method {
        proto::ProofMethod::Unspecified => None,
        proto::ProofMethod::MillerRabin => Some(Proof::MillerRabin),
        proto::ProofMethod::LucasLehmer => Some(Proof::LucasLehmer),
        proto::ProofMethod::Pocklington => Some(Proof::Pocklington { factors: factors? }),
        proto::ProofMethod::Morrison => Some(Proof::Morrison { discriminant, factors: factors? }),
    }
}

fn factor_from_wire(wire: proto::ProofFactor, depth_max: usize) -> Option<ProofFactor> {
    let proof = match wire.proof {
        Some(proof) => Some(nested_from_wire(proof, depth_max.checked_sub(1)?)?),
        None => None,
    };
    Some(ProofFactor { prime: divisor(&wire.prime)?, base: wire.base, proof })
}

fn witness_from_wire(wire: proto::Witness) -> Option<Witness> {
    Some(match wire.kind? {
        Kind::Factor(factor) => Witness::Factor(divisor(&factor)?),
        Kind::Base(base) => Witness::Base(base),
        Kind::Lucas(discriminant) => Witness::Lucas(discriminant),
    })
}

/// A number that may divide another.
fn divisor(text: &str) -> Option<Number> {
    text.parse()
        .ok()
        .filter(|number: &Number| number.word().is_none_or(|word| word > 1) && !text.starts_with('-'))
}

impl From<&Evidence> for prime_response::Evidence {
    fn from(evidence: &Evidence) -> Self {
        match evidence {
            Evidence::Proof(proof) => Self::Proof(proof.into()),
            Evidence::Witness(witness) => Self::Witness(witness.into()),
        }
    }
}

impl From<&Proof> for proto::Proof {
    fn from(proof: &Proof) -> Self {
        let (method, discriminant, factors) = match proof {
            Proof::MillerRabin => (proto::ProofMethod::MillerRabin, 0, &[][..]),
            Proof::LucasLehmer => (proto::ProofMethod::LucasLehmer, 0, &[][..]),
            Proof::Pocklington { factors } => (proto::ProofMethod::Pocklington, 0, &factors[..]),
            Proof::Morrison { discriminant, factors } => {
                (proto::ProofMethod::Morrison, *discriminant, &factors[..])
            }
        };
        let factors = factors.iter().map(|ProofFactor { prime, base, proof }| proto::ProofFactor {
            prime: prime.to_string(),
            base: *base,
            proof: proof.as_ref().map(Into::into),
        });
        Self { method: method.into(), factors: factors.collect(), discriminant }
    }
}

impl From<&Witness> for proto::Witness {
    fn from(witness: &Witness) -> Self {
        let kind = match witness {
            Witness::Factor(factor) => Kind::Factor(factor.to_string()),
            Witness::Base(base) => Kind::Base(*base),
            Witness::Lucas(discriminant) => Kind::Lucas(*discriminant),
        };
        Self { kind: Some(kind) }
    }
}

// ── JSON ────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Why a number is prime. What each method says, and how to check it, is in docs/proofs.md.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"method": "pocklington", "factors": [{"prime": "2", "base": "5"}, {"prime": "3998741", "base": "5"}]}))]
pub struct ProofAnswer<'a> {
    /// How it is proven.
    method: MethodWord,
    /// Of `morrison`: the discriminant of its Lucas sequences.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "-7")]
    discriminant: Option<String>,
    /// Of `pocklington` and `morrison`: primes that divide the number less 1, or plus 1.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    factors: Vec<FactorAnswer<'a>>,
}

/// How a number is proven to be prime.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(example = "pocklington")]
pub enum MethodWord {
    /// The number is below 3317044064679887385961981 and passes the strong test to the first 13 primes.
    MillerRabin,
    /// The number is a power of two, less 1, and the sequence of Lucas and Lehmer comes to 0.
    LucasLehmer,
    /// By factors of the number less 1.
    Pocklington,
    /// By factors of the number plus 1.
    Morrison,
}

/// A prime that divides the number less 1, or plus 1.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"prime": "3998741", "base": "5"}))]
pub struct FactorAnswer<'a> {
    /// The prime.
    prime: Cow<'a, str>,
    /// What it is shown with.
    base: String,
    /// From 2^64 on: why it is prime. Proofs are nested at most 8 deep.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(no_recursion)]
    proof: Option<Box<ProofAnswer<'a>>>,
}

/// Why a number is composite: one of the three.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(example = json!({"factor": "3"}))]
pub enum WitnessAnswer<'a> {
    /// It is a multiple of this number.
    Factor(Cow<'a, str>),
    /// It fails the strong test to this base.
    Base(String),
    /// It fails the Lucas test with this discriminant.
    Lucas(String),
}

impl<'a> From<&'a Proof> for ProofAnswer<'a> {
    fn from(proof: &'a Proof) -> Self {
        let (method, discriminant, factors) = match proof {
            Proof::MillerRabin => (MethodWord::MillerRabin, None, &[][..]),
            Proof::LucasLehmer => (MethodWord::LucasLehmer, None, &[][..]),
            Proof::Pocklington { factors } => (MethodWord::Pocklington, None, &factors[..]),
            Proof::Morrison { discriminant, factors } => {
                (MethodWord::Morrison, Some(discriminant.to_string()), &factors[..])
            }
        };
        Self { method, discriminant, factors: factors.iter().map(FactorAnswer::from).collect() }
    }
}

impl<'a> From<&'a ProofFactor> for FactorAnswer<'a> {
    fn from(factor: &'a ProofFactor) -> Self {
        let proof = factor.proof.as_ref().map(|proof| Box::new(proof.into()));
        Self { prime: factor.prime.as_str(), base: factor.base.to_string(), proof }
    }
}

impl<'a> From<&'a Witness> for WitnessAnswer<'a> {
    fn from(witness: &'a Witness) -> Self {
        match witness {
            Witness::Factor(factor) => Self::Factor(Number::as_str(factor)),
            Witness::Base(base) => Self::Base(base.to_string()),
            Witness::Lucas(discriminant) => Self::Lucas(discriminant.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(depth: usize) -> Proof {
        let proof = (depth > 0).then(|| nested(depth - 1));
        let prime = if depth > 0 { "18446744073709551629" } else { "3" };
        let factor = ProofFactor { prime: prime.parse().unwrap(), base: 2, proof };
        match depth % 2 {
            0 => Proof::Pocklington { factors: vec![factor] },
            _ => Proof::Morrison { discriminant: -7, factors: vec![factor] },
        }
    }

    #[test]
    fn evidence_is_the_same_after_its_way_over_the_wire() {
        let proofs = [Proof::MillerRabin, Proof::LucasLehmer, nested(0), nested(Proof::DEPTH_MAX)];
        let witnesses = [Witness::Factor(3_u64.into()), Witness::Base(41), Witness::Lucas(-11)];
        let all = proofs.map(Evidence::Proof).into_iter().chain(witnesses.map(Evidence::Witness));
        for evidence in all {
            assert_eq!(evidence_from_wire((&evidence).into()), Some(evidence));
        }
    }

    #[test]
    fn evidence_that_is_not_understood_is_none() {
        let wire = |method, prime: &str| proto::Proof {
            method,
            factors: vec![proto::ProofFactor { prime: prime.to_owned(), base: 2, proof: None }],
            discriminant: 0,
        };
        assert_eq!(proof_from_wire((&nested(Proof::DEPTH_MAX + 1)).into()), None);
        assert_eq!(proof_from_wire(wire(99, "3")), None);
        for prime in ["03", "0", "1", "-3", "x", ""] {
            assert_eq!(proof_from_wire(wire(proto::ProofMethod::Pocklington.into(), prime)), None, "{prime}");
        }
        let mut many = wire(proto::ProofMethod::Pocklington.into(), "3");
        many.factors = vec![many.factors[0].clone(); Proof::FACTORS_MAX + 1];
        assert_eq!(proof_from_wire(many), None);
        assert_eq!(
            evidence_from_wire(prime_response::Evidence::Witness(proto::Witness { kind: None })),
            None
        );
    }

    #[test]
    fn evidence_looks_like_this_in_json() {
        let json = |evidence: &Proof| serde_json::to_value(ProofAnswer::from(evidence)).unwrap();
        assert_eq!(json(&Proof::LucasLehmer), serde_json::json!({"method": "lucas-lehmer"}));
        let expected = serde_json::json!({"method": "morrison", "discriminant": "-7", "factors": [
            {"prime": "18446744073709551629", "base": "2",
             "proof": {"method": "pocklington", "factors": [{"prime": "3", "base": "2"}]}}]});
        assert_eq!(json(&nested(1)), expected);
        let witness = serde_json::to_value(WitnessAnswer::from(&Witness::Lucas(5))).unwrap();
        assert_eq!(witness, serde_json::json!({"lucas": "5"}));
    }
}
