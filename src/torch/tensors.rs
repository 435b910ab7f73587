//! Between tensors and arrays.

#![allow(unsafe_code, reason = "a tensor tells an address and a length")]

use std::ops::Range;

use tch::{Device, Kind, Tensor};

use super::call::{Inputs, OfSamples};
use super::layer::FairnessLayer;
use crate::batch::Buffer;
use crate::cells::Strata;
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

/// A tensor of these numbers, of this shape, in host memory.
pub(super) fn tensor_of<T: Element>(values: &[T], shape: &[i64]) -> Result<Tensor> {
    Tensor::f_from_data_size(bytemuck::cast_slice(values), shape, T::KIND).map_err(failed)
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
    if tensor.device() != Device::Cpu {
        return Err(Error::Torch { problem: format!("a tensor in host memory is needed, and this is {tensor:?}") });
    }
    let (address, numbers) = array::<T>(tensor, kind)?;
    if numbers == 0 {
        return Ok(&[]);
    }
    // SAFETY: so many numbers of this type lie there, one after the other; they live as long as the tensor, whose shared borrow
    // the slice keeps. Nothing of ours writes to it.
    Ok(unsafe { std::slice::from_raw_parts(address, numbers) })
}

/// Where a contiguous tensor lies, and how many numbers it has.
fn array<T>(tensor: &Tensor, kind: Kind) -> Result<(*const T, usize)> {
    if tensor.kind() != kind || !tensor.is_contiguous() || size_of::<T>() != kind.elt_size_in_bytes() {
        return Err(Error::Torch {
            problem: format!("a contiguous {kind:?} tensor is needed, and this is {tensor:?}"),
        });
    }
    Ok((tensor.data_ptr().cast_const().cast(), tensor.numel()))
}

/// A part of a contiguous tensor as an input of a batch: a slice, or an array on a GPU. There it is read by work that is given to
/// torch's current stream, in order with torch's own.
pub(super) fn buffer<T: bytemuck::Pod>(
    tensor: &Tensor,
    kind: Kind,
    part: Range<usize>,
    on_gpu: bool,
) -> Result<Buffer<'_, T>> {
    if !on_gpu {
        return Ok(Buffer::host(&slice_of(tensor, kind)?[part]));
    }
    #[cfg(feature = "cuda")]
    {
        let (address, numbers) = array::<T>(tensor, kind)?;
        if part.end > numbers {
            return Err(Error::Shape { what: "a tensor", expected: part.end, got: numbers });
        }
        let address = address as u64 + (part.start * size_of::<T>()) as u64;
        // SAFETY: so many numbers lie there. The call that they are of keeps the tensor as long as the graph may be pulled back, and
        // torch gives its memory to others only behind what its stream was given before.
        Ok(unsafe { Buffer::cuda(address, part.len()) })
    }
    #[cfg(not(feature = "cuda"))]
    Err(Error::Torch { problem: "this fairlayer was built without the feature cuda".into() })
}

/// The tensor outside of the graph, on a device and of a kind; the same one where it is so already. (Every operation of torch costs
/// a microsecond, which is as long as a projection of some hundred predictions takes.)
pub(super) fn converted(tensor: &Tensor, device: Device, kind: Kind) -> Result<Tensor> {
    let own = if tensor.requires_grad() { tensor.f_detach().map_err(failed)? } else { tensor.shallow_clone() };
    let own = if own.device() == device { own } else { own.f_to_device(device).map_err(failed)? };
    if own.kind() == kind { Ok(own) } else { own.f_to_kind(kind).map_err(failed) }
}

/// The columns of `[n]` or `[n, k]`, one after the other: a tensor with its numbers in this order, of whatever shape. The tensor
/// itself if it is one already.
pub(super) fn by_column(tensor: &Tensor) -> Result<Tensor> {
    if tensor.is_contiguous() && tensor.size().get(1).is_none_or(|&columns| columns == 1) {
        return Ok(tensor.shallow_clone());
    }
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

/// Ids below the limits, as bytes, for every column of `[n]` or `[n, k]`.
///
/// # Errors
/// Another shape, numbers that are not whole, or an id out of range, with its row.
pub(super) fn ids(what: &'static str, tensor: &Tensor, n: usize, limits: &[(&str, usize)]) -> Result<Vec<Vec<u8>>> {
    let wrong = |problem: String| Error::Value { what, problem };
    let shape = tensor.size();
    if rows_and_columns(tensor) != Some((n, limits.len())) {
        return Err(wrong(format!("they have the shape {shape:?}, and [{n}, {}] is needed", limits.len())));
    }
    let given = converted(tensor, Device::Cpu, tensor.kind())?;
    let whole = converted(&given, Device::Cpu, Kind::Int64)?;
    if given.is_floating_point() {
        let back = whole.f_to_kind(given.kind()).map_err(failed)?;
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

/// Real numbers of the shape `[n]`, for all columns, or `[n, k]`, column by column, on a device.
///
/// # Errors
/// Another shape.
pub(super) fn reals(what: &'static str, tensor: &Tensor, (n, k): (usize, usize), device: Device) -> Result<OfSamples> {
    let columns = match rows_and_columns(tensor) {
        Some((rows, columns)) if rows == n && (columns == 1 || columns == k) => columns,
        _ => {
            let problem = format!("they have the shape {:?}, and [{n}] or [{n}, {k}] is needed", tensor.size());
            return Err(Error::Value { what, problem });
        }
    };
    let kind = if tensor.kind() == Kind::Float { Kind::Float } else { Kind::Double };
    Ok(OfSamples { values: by_column(&converted(tensor, device, kind)?)?, is_shared: columns == 1 && k > 1 })
}

/// The cells of samples whose groups are on a GPU, made there, without a look at them: where an id is out of range, the cell is
/// too. (A cell is the ids of the groups and that of the stratum, as the digits of a number: see `CellLayout`.)
pub(super) fn device_cells(
    layer: &FairnessLayer,
    inputs: Inputs<'_>,
    (n, k): (usize, usize),
    device: Device,
) -> Result<OfSamples> {
    let layout = layer.constraints().layout();
    let wrong = |what, tensor: &Tensor, needed: usize| {
        let problem = format!("they have the shape {:?}, and [{n}, {needed}] is needed", tensor.size());
        Error::Value { what, problem }
    };
    let mut digits: Vec<(Tensor, usize)> = Vec::new();
    if let Some(groups) = inputs.groups {
        let counts = layout.group_counts();
        if rows_and_columns(groups) != Some((n, counts.len())) {
            return Err(wrong("groups", groups, counts.len()));
        }
        let columns = by_column(&groups.f_to_device(device).map_err(failed)?)?;
        let columns = columns.f_view([counts.len() as i64, n as i64]).map_err(failed)?;
        for (feature, &count) in (0..).zip(counts) {
            digits.push((columns.f_select(0, feature).map_err(failed)?, count));
        }
    } else if layout.group_counts() != [1] {
        return Err(Error::Missing { what: "groups", hint: "Inputs::groups" });
    }
    let mut is_shared = k > 1;
    match (layout.strata(), inputs.control, inputs.labels) {
        (Strata::None, ..) => {}
        (Strata::Control { levels }, Some(control), _) if rows_and_columns(control) == Some((n, 1)) => {
            let own = control.f_to_device(device).and_then(|own| own.f_reshape([n as i64]));
            digits.push((own.map_err(failed)?, levels));
        }
        (Strata::Control { .. }, Some(control), _) => return Err(wrong("control", control, 1)),
        (Strata::Control { .. }, None, _) => return Err(Error::Missing { what: "control", hint: "Inputs::control" }),
        (Strata::Label, _, Some(labels)) => {
            let own = reals("labels", labels, (n, k), device)?;
            is_shared = own.is_shared;
            let positive = own.values.f_view([-1, n as i64]).and_then(|labels| labels.f_gt(0.5));
            digits.push((positive.map_err(failed)?, 2));
        }
        (Strata::Label, _, None) => return Err(Error::Missing { what: "labels", hint: "Inputs::labels" }),
    }
    let options = (Kind::Int64, device);
    let joined = || -> std::result::Result<Tensor, tch::TchError> {
        let mut cell = Tensor::f_zeros([n as i64], options)?;
        let mut within = Tensor::f_ones([n as i64], (Kind::Bool, device))?;
        for (digit, count) in &digits {
            let whole = digit.f_to_kind(Kind::Int64)?;
            within = within.f_logical_and(&whole.f_ge(0)?)?.f_logical_and(&whole.f_lt(*count as i64)?)?;
            if digit.is_floating_point() {
                within = within.f_logical_and(&whole.f_to_kind(digit.kind())?.f_eq_tensor(digit)?)?;
            }
            cell = cell.f_mul_scalar(*count as i64)?.f_add(&whole)?;
        }
        cell.f_where_scalarother(&within, i64::from(u8::MAX))?.f_to_kind(Kind::Uint8)?.f_contiguous()
    };
    Ok(OfSamples { values: joined().map_err(failed)?, is_shared })
}
