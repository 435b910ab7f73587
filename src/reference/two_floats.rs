//! Numbers kept as an unevaluated sum of two: twice the digits, where single ones would cancel away.

use std::ops::{Add, Div, Mul, Neg, Sub};

/// `a + b`, and what its rounding took. (Knuth.)
#[inline]
pub(crate) fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let part = sum - a;
    (sum, (a - (sum - part)) + (b - part))
}

/// `a * b`, and what its rounding took.
#[inline]
pub(crate) fn two_product(a: f64, b: f64) -> (f64, f64) {
    let product = a * b;
    (product, a.mul_add(b, -product))
}

/// A sum of numbers and products to twice the digits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TwoSum {
    sum: f64,
    rest: f64,
}

impl TwoSum {
    #[inline]
    pub(crate) fn add(&mut self, term: f64) {
        let (sum, rest) = two_sum(self.sum, term);
        (self.sum, self.rest) = (sum, self.rest + rest);
    }

    /// Adds `factor * (large + small)`.
    #[inline]
    pub(crate) fn add_product(&mut self, factor: f64, (large, small): (f64, f64)) {
        let (product, rest) = two_product(factor, large);
        self.add(product);
        self.rest += rest + factor * small;
    }

    /// The sum as two numbers, the second below the last digit of the first. Beyond the range of numbers there is no
    /// second.
    #[inline]
    pub(crate) fn parts(self) -> (f64, f64) {
        if self.rest.is_finite() { two_sum(self.sum, self.rest) } else { (self.sum, 0.0) }
    }

    #[inline]
    pub(crate) fn value(self) -> f64 {
        self.parts().0
    }
}

/// A number of twice the digits, to be calculated with.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Twofold {
    pub(crate) large: f64,
    pub(crate) small: f64,
}

impl Twofold {
    /// The exact product of two single numbers.
    #[inline(always)]
    pub(crate) fn product(a: f64, b: f64) -> Self {
        let (large, small) = two_product(a, b);
        Self { large, small }
    }

    /// Of two numbers, the first no smaller than the second.
    #[inline(always)]
    fn renormalised(large: f64, small: f64) -> Self {
        let sum = large + small;
        Self { large: sum, small: small - (sum - large) }
    }

    #[inline]
    pub(crate) fn abs(self) -> Self {
        if self.large < 0.0 { -self } else { self }
    }

    /// Times a single number.
    #[inline(always)]
    pub(crate) fn times(self, factor: f64) -> Self {
        let (product, rest) = two_product(self.large, factor);
        Self::renormalised(product, rest + self.small * factor)
    }
}

impl From<f64> for Twofold {
    #[inline(always)]
    fn from(large: f64) -> Self {
        Self { large, small: 0.0 }
    }
}

impl Neg for Twofold {
    type Output = Self;

    #[inline(always)]
    fn neg(self) -> Self {
        Self { large: -self.large, small: -self.small }
    }
}

impl Add for Twofold {
    type Output = Self;

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        let (large, rest) = two_sum(self.large, other.large);
        let (small, last) = two_sum(self.small, other.small);
        let Self { large, small: rest } = Self::renormalised(large, rest + small);
        Self::renormalised(large, rest + last)
    }
}

impl Sub for Twofold {
    type Output = Self;

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl Mul for Twofold {
    type Output = Self;

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        let (product, rest) = two_product(self.large, other.large);
        Self::renormalised(product, rest + (self.large * other.small + self.small * other.large))
    }
}

impl Div for Twofold {
    type Output = Self;

    #[inline]
    fn div(self, other: Self) -> Self {
        let first = self.large / other.large;
        let rest = self - other.times(first);
        let second = rest.large / other.large;
        let rest = rest - other.times(second);
        Self::renormalised(first, second) + Self::from(rest.large / other.large)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cancelled_digits_are_kept() {
        let third = 1.0 / 3.0;
        let mut sum = TwoSum::default();
        sum.add_product(3.0, (third * 1e16, 1e-9));
        sum.add_product(-1.0, (1e16, 0.0));
        let (large, _) = two_product(3.0, third * 1e16);
        assert_eq!(large, 1e16);
        assert!((sum.value() - (two_product(3.0, third * 1e16).1 + 3e-9)).abs() < 1e-20);
    }

    #[test]
    fn twice_the_digits_are_kept() {
        let (one, three) = (Twofold::from(1.0), Twofold::from(3.0));
        let third = one / three;
        // 1/3 in binary is 0.0101...: what the first part lacks of it is a third of its last place.
        assert_eq!((third.large, third.small), (1.0 / 3.0, f64::EPSILON / 12.0));
        let off = third * three - one;
        assert!(off.large.abs() < 1e-31, "{off:?}");
        let small = Twofold::from(1e-20);
        assert_eq!(((one + small) - one - small).large, 0.0);
        let power = |exponent: i32| 2.0_f64.powi(exponent);
        let difference = Twofold::product(1.0 + power(-30), 1.0 - power(-30)) - one;
        assert_eq!((difference.large, difference.small), (-power(-60), 0.0));
    }

    #[test]
    fn what_overflows_is_no_nan() {
        let mut sum = TwoSum::default();
        sum.add(f64::MAX);
        sum.add_product(2.0, (f64::MAX, 0.0));
        assert_eq!(sum.parts(), (f64::INFINITY, 0.0));
    }
}
