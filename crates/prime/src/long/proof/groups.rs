//! The two groups by which a number n is proven prime: their orders are n − 1 and n + 1 if it is.

use std::iter;

use dashu_int::{IBig, UBig};

use crate::{Proof, ProofFactor, Witness};

use super::super::{
    GoOn, Parameters, Power, Test, is_square, jacobi_of_small, odd_primes_below, ring::LongRing,
};

/// One of the groups, and the theorem that goes with it.
pub(super) trait ProvingGroup {
    type Ring: LongRing;
    type Element;
    /// How many products a squaring takes.
    const PRODUCTS: usize;

    fn ring(&self) -> &Self::Ring;
    fn go_on(&self) -> GoOn<'_>;
    /// What the order is if n is prime.
    fn order(&self) -> UBig;
    /// Whether n is prime if for all primes of this part of the order there is a base. The part has all of the order's twos.
    fn is_enough(&self, part: &UBig) -> bool;
    /// Which bases to try: those whose power to half of the order is not one if n is prime.
    fn choices(&self) -> impl Iterator<Item = i64>;
    /// What stands in a proof for a choice.
    fn base_in_proof(&self, choice: i64) -> u64;
    fn proof(&self, factors: Vec<ProofFactor>) -> Proof;
    /// What shows that n is composite, if the power of this base to the order is not one.
    fn witness(&self, choice: i64) -> Option<Witness>;
    fn power_of_base(&self, choice: i64, exponent: &UBig) -> Option<Self::Element>;
    fn power(&self, element: &Self::Element, exponent: &UBig) -> Option<Self::Element>;
    /// It is 0 modulo just the divisors of n modulo which the element is one.
    fn distance_from_one(&self, element: &Self::Element) -> <Self::Ring as LongRing>::Residue;
}

/// Bases are primes below this. Half of all primes serve; but if n − 1 is a multiple of m!, none up to m does.
const BASES_END: usize = 1 << 16;

/// Mostly a base is below this.
const SMALL_BASES_END: usize = 1 << 8;

/// Where the search ends for a t of the bases t + α.
const SHIFTS_END: i64 = 1 << 12;

/// The residues that are prime to n: n − 1 of them.
pub(super) struct UnitGroup<'a, R: LongRing>(&'a Test<'a, R>);

impl<'a, R: LongRing> UnitGroup<'a, R> {
    pub(super) fn new(test: &'a Test<'a, R>) -> Self {
        Self(test)
    }
}

impl<R: LongRing> ProvingGroup for UnitGroup<'_, R> {
    type Ring = R;
    type Element = R::Residue;
    const PRODUCTS: usize = 1;

    fn ring(&self) -> &R {
        &self.0.ring
    }

    fn go_on(&self) -> GoOn<'_> {
        self.0.go_on
    }

    fn order(&self) -> UBig {
        self.0.n - UBig::ONE
    }

    fn is_enough(&self, part: &UBig) -> bool {
        let n = self.0.n;
        if part.sqr() > *n {
            return true;
        }
        let twice = part << 1;
        let rest = self.order() / part;
        let (s, r) = (&rest / &twice, &rest % &twice);
        if *n >= (part + UBig::ONE) * (part * (&twice + &r - UBig::ONE) + UBig::ONE) {
            return false;
        }
        let (square, eight) = (r.sqr(), &s << 3);
        s.is_zero() || square < eight || !is_square(&(square - eight))
    }

    fn choices(&self) -> impl Iterator<Item = i64> {
        let more = iter::once_with(|| odd_primes_below(BASES_END)).flatten();
        let more = more.skip_while(|prime| *prime < SMALL_BASES_END as u64);
        let primes = iter::once(2).chain(odd_primes_below(SMALL_BASES_END)).chain(more);
        // Who is told not to go on learns it with the first power.
        let serves = |base: &i64| !(self.0.go_on)() || jacobi_of_small(*base, self.0.n) == -1;
        primes.map(|prime| prime as i64).filter(serves)
    }

    fn base_in_proof(&self, choice: i64) -> u64 {
        choice.unsigned_abs()
    }

    fn proof(&self, factors: Vec<ProofFactor>) -> Proof {
        Proof::Pocklington { factors }
    }

    fn witness(&self, choice: i64) -> Option<Witness> {
        Some(Witness::Base(choice.unsigned_abs()))
    }

    fn power_of_base(&self, choice: i64, exponent: &UBig) -> Option<R::Residue> {
        self.0.power_of(choice, exponent)
    }

    fn power(&self, element: &R::Residue, exponent: &UBig) -> Option<R::Residue> {
        self.0.power(element, exponent)
    }

    fn distance_from_one(&self, element: &R::Residue) -> R::Residue {
        self.0.ring.difference(element.clone(), &self.0.ring.residue(1))
    }
}

/// The [`Power`]s x + y·α modulo n, those with the same x/y being the same: n + 1 of them. Bases are t + α; the y of their powers are the
/// U of the Lucas sequence with the same discriminant and P larger by 2t.
pub(super) struct LucasGroup<'a, R: LongRing> {
    test: &'a Test<'a, R>,
    discriminant: i64,
    parameters: Parameters,
}

impl<'a, R: LongRing> LucasGroup<'a, R> {
    pub(super) fn new(test: &'a Test<'a, R>, discriminant: i64) -> Self {
        Self { test, discriminant, parameters: Parameters::new(discriminant) }
    }
}

impl<R: LongRing> ProvingGroup for LucasGroup<'_, R> {
    type Ring = R;
    type Element = Power<R::Residue>;
    const PRODUCTS: usize = 2;

    fn ring(&self) -> &R {
        &self.test.ring
    }

    fn go_on(&self) -> GoOn<'_> {
        self.test.go_on
    }

    fn order(&self) -> UBig {
        self.test.n + UBig::ONE
    }

    fn is_enough(&self, part: &UBig) -> bool {
        let n = self.test.n;
        let less = part - UBig::ONE;
        if less.sqr() > *n {
            return true;
        }
        let twice = part << 1;
        let rest = self.order() / part;
        let (mut s, mut r) = (&rest / &twice, IBig::from(&rest % &twice));
        if r > IBig::from(part.clone()) {
            s += UBig::ONE;
            r -= IBig::from(twice.clone());
        }
        let (_, magnitude) = r.into_parts();
        if *n >= less * ((twice + UBig::ONE - &magnitude) * part + UBig::ONE) {
            return false;
        }
        s.is_zero() || !is_square(&(magnitude.sqr() + (s << 3)))
    }

    fn choices(&self) -> impl Iterator<Item = i64> {
        (0..SHIFTS_END).filter(|shift| {
            let p = self.parameters.p + 2 * shift;
            !(self.test.go_on)() || jacobi_of_small((p * p - self.discriminant) / 4, self.test.n) == -1
        })
    }

    fn base_in_proof(&self, shift: i64) -> u64 {
        (self.parameters.p + 2 * shift).unsigned_abs()
    }

    fn proof(&self, factors: Vec<ProofFactor>) -> Proof {
        Proof::Morrison { discriminant: self.discriminant, factors }
    }

    fn witness(&self, _: i64) -> Option<Witness> {
        None
    }

    fn power_of_base(&self, shift: i64, exponent: &UBig) -> Option<Power<R::Residue>> {
        self.test.power_of_root(shift, exponent, self.parameters)
    }

    fn power(&self, element: &Power<R::Residue>, exponent: &UBig) -> Option<Power<R::Residue>> {
        self.test.power_of_power(element, exponent, self.parameters)
    }

    fn distance_from_one(&self, element: &Power<R::Residue>) -> R::Residue {
        element.y.clone()
    }
}
