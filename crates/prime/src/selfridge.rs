//! Selfridge's choice of the parameters of a Lucas sequence, shared by the word and the long test.

/// The first D of 5, −7, 9, −11, … with Jacobi symbol (D/n) = −1, given n mod m as `residue(m)`.
///
/// An error when n turns out to be a multiple of some D, whose magnitude it is, hence composite if it exceeds every D tried:
/// the callers' trial division sees to that, and to multiples of 3. n must be odd and no perfect square: a square has no
/// such D.
pub(super) fn discriminant(residue: impl Fn(u64) -> u64) -> Result<i64, u64> {
    for magnitude in (5..).step_by(2) {
        // Every D here is 1 modulo 4, so that reciprocity gives (D/n) = (n/|D|) whatever its sign.
        match jacobi(residue(magnitude), magnitude) {
            1 => continue,
            0 => return Err(magnitude),
            _ if magnitude % 4 == 1 => return Ok(magnitude as i64),
            _ => return Ok(-(magnitude as i64)),
        }
    }
    Err(0)
}

/// The Jacobi symbol (a/n), by quadratic reciprocity; n odd.
pub(super) fn jacobi(mut a: u64, mut n: u64) -> i32 {
    let mut sign = 1;
    a %= n;
    while a != 0 {
        let twos = a.trailing_zeros();
        a >>= twos;
        if twos % 2 == 1 && matches!(n % 8, 3 | 5) {
            sign = -sign;
        }
        if a % 4 == 3 && n % 4 == 3 {
            sign = -sign;
        }
        (a, n) = (n % a, a);
    }
    if n == 1 { sign } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jacobi_agrees_with_eulers_criterion() {
        for prime in [3_u64, 5, 7, 11, 13, 97] {
            for a in 0..2 * prime {
                let power = (0..(prime - 1) / 2).fold(1, |power, _| power * a % prime);
                let expected = if power == prime - 1 { -1 } else { power as i32 };
                assert_eq!(jacobi(a, prime), expected, "({a}/{prime})");
            }
        }
    }

    #[test]
    fn jacobi_is_multiplicative_below() {
        for a in 0..300 {
            assert_eq!(jacobi(a, 15), jacobi(a, 3) * jacobi(a, 5));
            assert_eq!(jacobi(a, 49 * 11), jacobi(a, 7).pow(2) * jacobi(a, 11));
        }
    }

    #[test]
    fn discriminants_follow_selfridge() {
        let discriminant_of = |n: u64| discriminant(|m| n % m);
        assert_eq!(discriminant_of(7), Ok(5));
        assert_eq!(discriminant_of(19), Ok(-7));
        assert_eq!(discriminant_of(101), Ok(-7));
        assert_eq!(discriminant_of(5 * 41), Err(5));
    }
}
