//! Numbers kept as an unevaluated sum of two: twice the digits, where single ones would cancel away.

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
    fn what_overflows_is_no_nan() {
        let mut sum = TwoSum::default();
        sum.add(f64::MAX);
        sum.add_product(2.0, (f64::MAX, 0.0));
        assert_eq!(sum.parts(), (f64::INFINITY, 0.0));
    }
}
