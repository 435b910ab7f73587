//! The number types that predictions are stored in, and the type each is computed in.

use half::{bf16, f16};

use crate::backend::cpu::CpuStorage;

/// The name of a storage type, for messages and for choosing kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dtype {
    /// IEEE half precision.
    F16,
    /// Brain float.
    Bf16,
    /// IEEE single precision.
    F32,
    /// IEEE double precision.
    F64,
}

/// A type that predictions can be stored in: `f16`, `bf16`, `f32` or `f64`.
///
/// `Arithmetic` is the type that an element is shifted and clipped in; sums over elements are `f64` on the CPU
/// whatever the storage type.
pub trait Storage: CpuStorage + Copy + Send + Sync + Default + PartialOrd + std::fmt::Debug + 'static {
    /// `f32` for `f16`, `bf16` and `f32`; `f64` for `f64`.
    type Arithmetic: Arithmetic;
    /// The name of this type.
    const DTYPE: Dtype;
    /// Half the distance from 1 to the next number: the relative error of rounding to this type.
    const UNIT_ROUNDOFF: f64;
    /// The exact value in the arithmetic type.
    fn widen(self) -> Self::Arithmetic;
    /// The nearest value of this type.
    fn narrow(value: Self::Arithmetic) -> Self;
    /// The exact value as `f64`.
    fn to_f64(self) -> f64;
    /// The nearest value of this type.
    fn from_f64(value: f64) -> Self;
    /// `clip(self, lo, hi)`; a NaN stays a NaN.
    #[inline(always)]
    fn clip(self, lo: Self, hi: Self) -> Self {
        // Written so that it compiles to one max and one min, and so that a NaN falls through both.
        let raised = if lo > self { lo } else { self };
        if hi < raised { hi } else { raised }
    }
    /// Whether this is neither NaN nor infinite.
    #[inline(always)]
    fn is_finite(self) -> bool {
        self.to_f64().is_finite()
    }
}

/// A type that elements are computed in: `f32` or `f64`.
pub trait Arithmetic:
    Storage<Arithmetic = Self> + std::ops::Add<Output = Self> + std::ops::Sub<Output = Self> + std::ops::Mul<Output = Self>
{
    /// This number where the mask is all ones, 0 where it is all zeros. (Branch-free selection in vector loops.)
    fn masked(self, mask: u32) -> Self;
    /// The bitwise exclusive or. (What differs between two numbers, and its application.)
    fn xor_bits(self, other: Self) -> Self;
    /// Writes the lanes whose bit is set in `keep` to the front of `out`, which takes 16; what follows them is arbitrary.
    #[cfg(target_arch = "x86_64")]
    #[doc(hidden)]
    fn compress(simd: pulp::x86::V4, lanes: [Self; 16], keep: u16, out: &mut [Self]);
}

impl Arithmetic for f32 {
    #[inline(always)]
    fn masked(self, mask: u32) -> Self {
        Self::from_bits(self.to_bits() & mask)
    }
    #[inline(always)]
    fn xor_bits(self, other: Self) -> Self {
        Self::from_bits(self.to_bits() ^ other.to_bits())
    }
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn compress(simd: pulp::x86::V4, lanes: [Self; 16], keep: u16, out: &mut [Self]) {
        let kept: [Self; 16] = pulp::cast(simd.avx512f._mm512_maskz_compress_ps(keep, pulp::cast(lanes)));
        out[..16].copy_from_slice(&kept);
    }
}

impl Arithmetic for f64 {
    #[inline(always)]
    fn masked(self, mask: u32) -> Self {
        // Sign extension turns 32 ones into 64.
        Self::from_bits(self.to_bits() & mask.cast_signed() as i64 as u64)
    }
    #[inline(always)]
    fn xor_bits(self, other: Self) -> Self {
        Self::from_bits(self.to_bits() ^ other.to_bits())
    }
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn compress(simd: pulp::x86::V4, lanes: [Self; 16], keep: u16, out: &mut [Self]) {
        let mut first = 0;
        for (half, lanes) in lanes.as_chunks::<8>().0.iter().enumerate() {
            let keep = keep.to_le_bytes()[half];
            let kept: [Self; 8] = pulp::cast(simd.avx512f._mm512_maskz_compress_pd(keep, pulp::cast(*lanes)));
            out[first..first + 8].copy_from_slice(&kept);
            first += keep.count_ones() as usize;
        }
    }
}

macro_rules! half_storage {
    ($type:ty, $dtype:ident, $roundoff:expr) => {
        impl Storage for $type {
            type Arithmetic = f32;
            const DTYPE: Dtype = Dtype::$dtype;
            const UNIT_ROUNDOFF: f64 = $roundoff;
            #[inline(always)]
            fn widen(self) -> f32 {
                self.to_f32()
            }
            #[inline(always)]
            fn narrow(value: f32) -> Self {
                <$type>::from_f32(value)
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                f64::from(self.to_f32())
            }
            #[inline(always)]
            fn from_f64(value: f64) -> Self {
                <$type>::from_f64(value)
            }
        }
    };
}

half_storage!(f16, F16, 1.0 / 2048.0);
half_storage!(bf16, Bf16, 1.0 / 256.0);

macro_rules! native_storage {
    ($type:ty, $dtype:ident) => {
        impl Storage for $type {
            type Arithmetic = $type;
            const DTYPE: Dtype = Dtype::$dtype;
            const UNIT_ROUNDOFF: f64 = <$type>::EPSILON as f64 / 2.0;
            #[inline(always)]
            fn widen(self) -> $type {
                self
            }
            #[inline(always)]
            fn narrow(value: $type) -> Self {
                value
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                self as f64
            }
            #[inline(always)]
            fn from_f64(value: f64) -> Self {
                value as $type
            }
        }
    };
}

native_storage!(f32, F32);
native_storage!(f64, F64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clip_keeps_nan_and_bounds() {
        assert!(f32::NAN.clip(0.0, 1.0).is_nan());
        assert_eq!(2.0_f32.clip(0.0, 1.0), 1.0);
        assert_eq!((-2.0_f64).clip(0.0, 1.0), 0.0);
        assert_eq!(f64::INFINITY.clip(0.0, f64::INFINITY), f64::INFINITY);
        assert_eq!(f16::from_f32(0.3).clip(f16::ZERO, f16::ONE), f16::from_f32(0.3));
    }

    #[test]
    fn unit_roundoff_is_half_an_ulp_of_one() {
        fn next_after_one<T: Storage>() -> f64 {
            T::from_f64(1.0 + 2.0 * T::UNIT_ROUNDOFF).to_f64() - 1.0
        }
        assert_eq!(next_after_one::<f16>(), f16::EPSILON.to_f64());
        assert_eq!(next_after_one::<bf16>(), bf16::EPSILON.to_f64());
        assert_eq!(next_after_one::<f32>(), f64::from(f32::EPSILON));
        assert_eq!(next_after_one::<f64>(), f64::EPSILON);
    }
}
