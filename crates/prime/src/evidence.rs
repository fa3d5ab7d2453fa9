//! What an answer rests on, so that somebody else can check it.

use crate::Number;

/// What the answer to a number of 2⁶⁴ or above rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Why it is prime.
    Proof(Proof),
    /// Why it is composite.
    Witness(Witness),
}

/// Why n, which is 2⁶⁴ or above, is composite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Witness {
    /// It is a multiple of this number, which is neither 1 nor n.
    Factor(Number),
    /// It fails the strong test to this base, of which n is no divisor: with n − 1 = d·2ˢ, d odd, baseᵈ is not 1 modulo n, and
    /// none of baseᵈ, base²ᵈ, … , base to the (n − 1)/2 is −1.
    Base(u64),
    /// It is odd and fails the Lucas test with this discriminant D, which is 1 modulo 4 and for which (D/n) = −1. P = Q = 5 if D
    /// is 5, else P = 1 and Q = (1 − D)/4. Modulo a prime n each of these holds, and here one does not: with n + 1 = d·2ˢ,
    /// d odd, U(d) is 0 or one of V(d), V(2d), … , V((n + 1)/2) is; V(n + 1) is 2Q; Q to the (n + 1)/2 is Q·(Q/n).
    Lucas(i64),
}

/// Why n is prime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// It is below 3,317,044,064,679,887,385,961,981 and passes the strong test to the first 13 primes, 2 to 41, which no composite
    /// number below that does (J. Sorenson, J. Webster, "Strong pseudoprimes to twelve prime bases", Math. Comp. 86, 2017).
    MillerRabin,
    /// It is 2ᵖ − 1, p is prime, and of the sequence s = 4, s² − 2, … the (p − 1)th is 0 modulo n (D. H. Lehmer, "On Lucas's
    /// test for the primality of Mersenne's numbers", J. London Math. Soc. 10, 1935).
    LucasLehmer,
    /// By factors of n − 1. F is the product of the highest powers of these primes that divide n − 1. For each of them, q, and
    /// its base a: aⁿ⁻¹ is 1 modulo n, and a to the (n − 1)/q, less 1, is prime to n. Then every prime that divides n is 1
    /// modulo F (H. C. Pocklington, 1914), and n is prime if F² > n. It is as well if F is even, (n − 1)/F is odd and 2F·s + r
    /// with 0 < r < 2F, n < (F + 1)·(2F² + (r − 1)·F + 1), and s is 0 or r² − 8s no square (J. Brillhart, D. H. Lehmer,
    /// J. L. Selfridge, "New primality criteria and factorizations of 2ᵐ ± 1", Math. Comp. 29, 1975, theorem 5).
    Pocklington {
        /// Primes that divide n − 1; 2 is among them.
        factors: Vec<ProofFactor>,
    },
    /// By factors of n + 1. F is the product of the highest powers of these primes that divide n + 1, and (D/n) = −1. For each
    /// of them, q, and its base P, in the Lucas sequence of P and Q = (P² − D)/4: U(n + 1) is 0 modulo n, and U((n + 1)/q) is
    /// prime to n. Then every prime that divides n is 1 or −1 modulo F (M. A. Morrison, "A note on primality testing using
    /// Lucas sequences", Math. Comp. 29, 1975), and n is prime if (F − 1)² > n. It is as well if F is even, (n + 1)/F is odd
    /// and 2F·s + r with |r| < F, n < (F − 1)·((2F − |r| + 1)·F + 1), and s is 0 or r² + 8s no square (Brillhart, Lehmer,
    /// Selfridge, theorem 17).
    Morrison {
        /// D, the discriminant of all the sequences.
        discriminant: i64,
        /// Primes that divide n + 1; 2 is among them.
        factors: Vec<ProofFactor>,
    },
}

impl Proof {
    /// How deep proofs of factors are nested in a proof, at most.
    pub const DEPTH_MAX: usize = 8;

    /// The most factors of a proof: each one costs products, and somebody is to read it.
    pub const FACTORS_MAX: usize = 64;
}

/// A prime that divides n − 1 or n + 1, and what it shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProofFactor {
    /// The prime.
    pub prime: Number,
    /// The base: see [`Proof`].
    pub base: u64,
    /// Why it is prime; none below 2⁶⁴, where [`is_prime`](crate::is_prime) is exact.
    pub proof: Option<Proof>,
}
