//! Between tensors and arrays.

#![allow(unsafe_code, reason = "a tensor tells an address and a length")]

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::storage::Storage;

/// What torch said, as an error of ours.
pub(super) fn failed(error: tch::TchError) -> Error {
    // (Its backtrace is of no use to those who call us.)
    let all = error.to_string();
    Error::Torch { problem: all.lines().next().unwrap_or_default().to_owned() }
}

/// The number types of tensors. (tch 0.24 has a trait for this, by which bf16 is Half.)
pub(super) trait Element: Storage + bytemuck::Pod {
    const KIND: Kind;
}

impl Element for crate::f16 {
    const KIND: Kind = Kind::Half;
}

impl Element for crate::bf16 {
    const KIND: Kind = Kind::BFloat16;
}

impl Element for f32 {
    const KIND: Kind = Kind::Float;
}

impl Element for f64 {
    const KIND: Kind = Kind::Double;
}

/// A tensor of these numbers, `[n]`.
pub(super) fn tensor_of<T: Element>(values: &[T]) -> Result<Tensor> {
    Tensor::f_from_data_size(bytemuck::cast_slice(values), &[values.len() as i64], T::KIND).map_err(failed)
}

/// The numbers of a tensor in host memory, in order.
///
/// # Errors
/// It is not contiguous, of another type, or elsewhere.
pub(super) fn values<T: Element>(tensor: &Tensor) -> Result<&[T]> {
    slice_of(tensor, T::KIND)
}

/// `T` must be what torch stores for this kind.
fn slice_of<T: bytemuck::Pod>(tensor: &Tensor, kind: Kind) -> Result<&[T]> {
    let fits = tensor.device() == Device::Cpu && tensor.kind() == kind && tensor.is_contiguous();
    if !fits || size_of::<T>() != kind.elt_size_in_bytes() {
        let problem = format!("a contiguous {kind:?} tensor on the CPU is needed, and this is {tensor:?}");
        return Err(Error::Torch { problem });
    }
    if tensor.numel() == 0 {
        return Ok(&[]);
    }
    // SAFETY: so many numbers of this type lie there, one after the other; they live as long as the tensor, whose shared borrow
    // the slice keeps. Nothing of ours writes to it.
    Ok(unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast(), tensor.numel()) })
}

/// The columns of `[n]` or `[n, k]`, one after the other, as `[k, n]` of numbers in order.
pub(super) fn by_column(tensor: &Tensor) -> Result<Tensor> {
    let columns = if tensor.dim() == 1 { tensor.shallow_clone() } else { tensor.f_transpose(0, 1).map_err(failed)? };
    columns.f_contiguous().map_err(failed)
}

/// The shape `[n]` or `[n, k]` as n and k, if it is one.
pub(super) fn rows_and_columns(tensor: &Tensor) -> Option<(usize, usize)> {
    let size: Vec<usize> = tensor.size().into_iter().map(|length| length as usize).collect();
    match size[..] {
        [n] => Some((n, 1)),
        [n, k] => Some((n, k)),
        _ => None,
    }
}

/// Ids below the limits, one for every column of `[n]` or `[n, k]`, feature by feature.
///
/// # Errors
/// Another shape, numbers that are not whole, or an id out of range, with its row.
pub(super) fn ids(what: &'static str, tensor: &Tensor, n: usize, limits: &[(&str, usize)]) -> Result<Vec<Vec<u8>>> {
    let wrong = |problem: String| Error::Value { what, problem };
    let shape = tensor.size();
    if rows_and_columns(tensor) != Some((n, limits.len())) {
        return Err(wrong(format!("they have the shape {shape:?}, and [{n}, {}] is needed", limits.len())));
    }
    let given = tensor.f_to_device(Device::Cpu).map_err(failed)?;
    let whole = given.f_to_kind(Kind::Int64).map_err(failed)?;
    if matches!(tensor.kind(), Kind::Half | Kind::BFloat16 | Kind::Float | Kind::Double) {
        let back = whole.f_to_kind(tensor.kind()).map_err(failed)?;
        if !back.f_equal(&given).map_err(failed)? {
            return Err(wrong("they are not all whole numbers".into()));
        }
    }
    let all = by_column(&whole)?;
    let all: &[i64] = slice_of(&all, Kind::Int64)?;
    let column = |(index, &(name, limit)): (usize, &(&str, usize))| {
        let own = all[index * n..(index + 1) * n].iter().enumerate();
        own.map(|(row, &id)| match usize::try_from(id) {
            Ok(inside) if inside < limit => Ok(inside as u8),
            _ => Err(wrong(format!("row {row} has {id} for {name}, which has ids below {limit}"))),
        })
        .collect()
    };
    limits.iter().enumerate().map(column).collect()
}

/// Real numbers of the shape `[n]`, for all columns, or `[n, k]`, column by column; and whether the columns share them.
///
/// # Errors
/// Another shape.
pub(super) fn reals(what: &'static str, tensor: &Tensor, (n, k): (usize, usize)) -> Result<(Vec<f64>, bool)> {
    let columns = match rows_and_columns(tensor) {
        Some((rows, columns)) if rows == n && (columns == 1 || columns == k) => columns,
        _ => {
            let problem = format!("they have the shape {:?}, and [{n}] or [{n}, {k}] is needed", tensor.size());
            return Err(Error::Value { what, problem });
        }
    };
    let host = tensor.f_detach().and_then(|own| own.f_to_device(Device::Cpu)).map_err(failed)?;
    let wide = by_column(&host.f_to_kind(Kind::Double).map_err(failed)?)?;
    Ok((values::<f64>(&wide)?.to_vec(), columns == 1 && k > 1))
}
