//! The inputs of a call: flat arrays cut into problems. Every shape is checked here, once.

use crate::cells::Strata;
use crate::constraints::ConstraintSet;
use crate::error::{Error, Result};
use crate::storage::Storage;

/// Whether an array has a part for every problem or one part that all problems share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Problem `i` has its own part.
    PerProblem,
    /// All problems, of equal size, read the same part.
    Shared,
}

/// Where an array lies.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Place<'a, T> {
    /// In host memory.
    Host(&'a [T]),
    /// In memory of the CUDA device that the projector was planned for.
    #[cfg(feature = "cuda")]
    Cuda {
        /// The address of the first element.
        address: u64,
        /// The number of elements.
        len: usize,
    },
    /// In a buffer of the wgpu device that the projector was planned for.
    #[cfg(feature = "wgpu")]
    Wgpu {
        /// The buffer, with usage `STORAGE`.
        buffer: &'a wgpu::Buffer,
        /// The first element of the array in it.
        first: usize,
        /// The number of elements.
        len: usize,
    },
}

/// Where a plan reads arrays of elements beside host memory.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    /// Nowhere else.
    Host,
    #[cfg(feature = "cuda")]
    Cuda,
    #[cfg(feature = "wgpu")]
    Wgpu,
}

/// A borrowed array argument: where it lies, and whether problems share it. Slices convert into it.
#[derive(Clone, Copy, Debug)]
pub struct Buffer<'a, T> {
    place: Place<'a, T>,
    sharing: Sharing,
}

impl<'a, T> Buffer<'a, T> {
    /// A host slice with a part for every problem.
    pub fn host(slice: &'a [T]) -> Self {
        Self { place: Place::Host(slice), sharing: Sharing::PerProblem }
    }

    /// An array of a device, with a part for every problem.
    #[cfg(feature = "cuda")]
    pub(crate) fn at(place: Place<'a, T>) -> Self {
        Self { place, sharing: Sharing::PerProblem }
    }

    /// Elements of a buffer on the wgpu device that the projector is planned for, with usage `STORAGE`: they are read where
    /// they lie, after all work that was submitted to the device's queue before.
    #[cfg(feature = "wgpu")]
    pub fn wgpu(buffer: &'a wgpu::Buffer, elements: std::ops::Range<usize>) -> Self {
        let (first, len) = (elements.start, elements.len());
        Self { place: Place::Wgpu { buffer, first, len }, sharing: Sharing::PerProblem }
    }

    /// The same array, read by every problem.
    #[must_use]
    pub fn shared(self) -> Self {
        Self { sharing: Sharing::Shared, ..self }
    }

    /// Where the array lies.
    pub fn place(&self) -> Place<'a, T> {
        match self.place {
            Place::Host(slice) => Place::Host(slice),
            #[cfg(feature = "cuda")]
            Place::Cuda { address, len } => Place::Cuda { address, len },
            #[cfg(feature = "wgpu")]
            Place::Wgpu { buffer, first, len } => Place::Wgpu { buffer, first, len },
        }
    }

    /// Whether problems share it.
    pub fn sharing(&self) -> Sharing {
        self.sharing
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        match self.place {
            Place::Host(slice) => slice.len(),
            #[cfg(feature = "cuda")]
            Place::Cuda { len, .. } => len,
            #[cfg(feature = "wgpu")]
            Place::Wgpu { len, .. } => len,
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The host slice. Of an array elsewhere nothing: `check_place` has refused it where one is needed.
    pub(crate) fn slice(&self) -> &'a [T] {
        match self.place {
            Place::Host(slice) => slice,
            #[cfg(any(feature = "cuda", feature = "wgpu"))]
            _ => &[],
        }
    }

    /// Whether the array may lie where it does: on the host, or at `home`.
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    pub(crate) fn check_place(&self, what: &'static str, home: Home) -> Result<()> {
        match self.place {
            Place::Host(_) => Ok(()),
            #[cfg(feature = "cuda")]
            Place::Cuda { address, len } if home == Home::Cuda => {
                let bytes = (len as u64).checked_mul(size_of::<T>() as u64);
                let is_there = len == 0 || (address != 0 && address.is_multiple_of(align_of::<T>() as u64));
                match bytes.and_then(|bytes| address.checked_add(bytes)) {
                    Some(_) if is_there => Ok(()),
                    _ => Err(Error::value(what, format!("at {address:#x} no array of {len} elements can lie"))),
                }
            }
            #[cfg(feature = "wgpu")]
            Place::Wgpu { buffer, first, len } if home == Home::Wgpu => {
                let bytes = first.checked_add(len).and_then(|end| end.checked_mul(size_of::<T>()));
                let inside = bytes.is_some_and(|bytes| bytes as u64 <= buffer.size());
                let bound = buffer.usage().contains(wgpu::BufferUsages::STORAGE) && buffer.size().is_multiple_of(4);
                match (inside, bound) {
                    (false, _) => Err(Error::value(what, "the range goes beyond the end of the wgpu buffer")),
                    (_, false) => {
                        Err(Error::value(what, "the wgpu buffer needs usage STORAGE and a size of whole words"))
                    }
                    _ => Ok(()),
                }
            }
            _ => Err(Error::value(what, "give it as a host slice")),
        }
    }

    /// The part of problem `index` where problem parts are `range` of the whole.
    fn part(&self, range: &std::ops::Range<usize>) -> &'a [T] {
        match self.sharing {
            Sharing::PerProblem => &self.slice()[range.clone()],
            Sharing::Shared => self.slice(),
        }
    }

    fn check(&self, what: &'static str, expected: Expected) -> Result<()> {
        let expected = match (self.sharing, expected.shared) {
            (Sharing::PerProblem, _) => expected.per_problem,
            (Sharing::Shared, Some(shared)) => shared,
            (Sharing::Shared, None) => {
                return Err(Error::value(what, "an array can be shared only by problems of equal size"));
            }
        };
        if self.len() == expected { Ok(()) } else { Err(Error::Shape { what, expected, got: self.len() }) }
    }
}

/// The lengths that an array must have in either sharing mode; `None` where it cannot be shared.
#[derive(Clone, Copy)]
struct Expected {
    per_problem: usize,
    shared: Option<usize>,
}

impl<'a, T> From<&'a [T]> for Buffer<'a, T> {
    fn from(slice: &'a [T]) -> Self {
        Self::host(slice)
    }
}

impl<'a, T, const N: usize> From<&'a [T; N]> for Buffer<'a, T> {
    fn from(array: &'a [T; N]) -> Self {
        Self::host(array)
    }
}

impl<'a, T> From<&'a Vec<T>> for Buffer<'a, T> {
    fn from(vec: &'a Vec<T>) -> Self {
        Self::host(vec)
    }
}

/// An array of real numbers beside the predictions (labels, weights, row bounds), in `f32` or `f64` as the caller has
/// it. It is widened to `f64` exactly, so that weight sums and label means do not depend on the storage type.
#[derive(Clone, Copy, Debug)]
pub enum Reals<'a> {
    /// Single precision.
    F32(Buffer<'a, f32>),
    /// Double precision.
    F64(Buffer<'a, f64>),
}

impl<'a> Reals<'a> {
    /// The same array, read by every problem.
    #[must_use]
    pub fn shared(self) -> Self {
        match self {
            Self::F32(buffer) => Self::F32(buffer.shared()),
            Self::F64(buffer) => Self::F64(buffer.shared()),
        }
    }

    /// Whether problems share it.
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    pub(crate) fn sharing(&self) -> Sharing {
        match self {
            Self::F32(buffer) => buffer.sharing(),
            Self::F64(buffer) => buffer.sharing(),
        }
    }

    /// The host slice.
    #[cfg(feature = "wgpu")]
    pub(crate) fn slice_all(&self) -> RealSlice<'a> {
        match self {
            Self::F32(buffer) => RealSlice::F32(buffer.slice()),
            Self::F64(buffer) => RealSlice::F64(buffer.slice()),
        }
    }

    /// As [`Buffer::check_place`], of either precision.
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    fn check_place(&self, what: &'static str, [single, double]: [Home; 2]) -> Result<()> {
        match self {
            Self::F32(buffer) => buffer.check_place(what, single),
            Self::F64(buffer) => buffer.check_place(what, double),
        }
    }

    fn part(&self, range: &std::ops::Range<usize>) -> RealSlice<'a> {
        match self {
            Self::F32(buffer) => RealSlice::F32(buffer.part(range)),
            Self::F64(buffer) => RealSlice::F64(buffer.part(range)),
        }
    }

    fn check(&self, what: &'static str, expected: Expected) -> Result<()> {
        match self {
            Self::F32(buffer) => buffer.check(what, expected),
            Self::F64(buffer) => buffer.check(what, expected),
        }
    }
}

macro_rules! reals_from {
    ($type:ty, $variant:ident) => {
        impl<'a> From<Buffer<'a, $type>> for Reals<'a> {
            fn from(buffer: Buffer<'a, $type>) -> Self {
                Self::$variant(buffer)
            }
        }
        impl<'a> From<&'a [$type]> for Reals<'a> {
            fn from(slice: &'a [$type]) -> Self {
                Self::$variant(slice.into())
            }
        }
        impl<'a, const N: usize> From<&'a [$type; N]> for Reals<'a> {
            fn from(array: &'a [$type; N]) -> Self {
                Self::$variant(array.into())
            }
        }
        impl<'a> From<&'a Vec<$type>> for Reals<'a> {
            fn from(vec: &'a Vec<$type>) -> Self {
                Self::$variant(vec.into())
            }
        }
    };
}

reals_from!(f32, F32);
reals_from!(f64, F64);

/// Where one problem ends and the next begins.
#[derive(Clone, Copy, Debug)]
pub enum Offsets<'a> {
    /// Problem `i` is elements `offsets[i]..offsets[i + 1]`; `[B + 1]`, from 0 to the number of predictions.
    Ragged(&'a [usize]),
    /// Problems of `n` elements each.
    Equal {
        /// The number of problems, B.
        problems: usize,
        /// The elements of each.
        n: usize,
    },
}

impl Offsets<'_> {
    /// The number of problems.
    pub fn problems(&self) -> usize {
        match *self {
            Self::Ragged(offsets) => offsets.len().saturating_sub(1),
            Self::Equal { problems, .. } => problems,
        }
    }

    /// The first element of problem `index`; from `problems()` on: the number of elements.
    #[inline]
    pub fn start(&self, index: usize) -> usize {
        match *self {
            Self::Ragged(offsets) => offsets.get(index).or(offsets.last()).copied().unwrap_or(0),
            Self::Equal { problems, n } => index.min(problems).saturating_mul(n),
        }
    }

    /// The elements of problem `index`; none for one that is not there.
    #[inline]
    pub fn range(&self, index: usize) -> std::ops::Range<usize> {
        self.start(index)..self.start(index.saturating_add(1))
    }

    /// The number of elements of the largest problem.
    pub fn largest(&self) -> usize {
        match *self {
            Self::Ragged(offsets) => offsets.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max().unwrap_or(0),
            Self::Equal { problems, n } => n * usize::from(problems > 0),
        }
    }

    /// The size that all problems have, if they have one.
    fn common_size(&self) -> Option<usize> {
        let first = if self.problems() == 0 { 0 } else { self.start(1) };
        let equal = match *self {
            Self::Ragged(offsets) => offsets.windows(2).all(|pair| pair[1] - pair[0] == first),
            Self::Equal { .. } => true,
        };
        equal.then_some(first)
    }

    /// Whether these are offsets of `total` elements.
    pub(crate) fn check(&self, total: usize) -> Result<()> {
        match *self {
            Self::Ragged(offsets) => {
                if offsets.first() != Some(&0) || offsets.windows(2).any(|pair| pair[0] > pair[1]) {
                    return Err(Error::value("offsets", "they must begin with 0 and never fall"));
                }
                let last = offsets[offsets.len() - 1];
                if last == total {
                    Ok(())
                } else {
                    Err(Error::Shape { what: "predictions", expected: last, got: total })
                }
            }
            Self::Equal { problems, n } => match problems.checked_mul(n) {
                Some(expected) if expected == total => Ok(()),
                expected => {
                    Err(Error::Shape { what: "predictions", expected: expected.unwrap_or(usize::MAX), got: total })
                }
            },
        }
    }
}

/// The sizes that a projector is planned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacities {
    /// The most problems of a batch.
    pub problems: usize,
    /// The most predictions of a batch, all problems together.
    pub total: usize,
    /// The most predictions of one problem.
    pub largest: usize,
}

impl Capacities {
    /// For one problem of `n` predictions.
    pub fn single(n: usize) -> Self {
        Self { problems: 1, total: n, largest: n }
    }

    /// For `problems` problems of `n` predictions each.
    pub fn equal(problems: usize, n: usize) -> Self {
        Self { problems, total: problems.saturating_mul(n), largest: n }
    }

    /// Just what these offsets need.
    pub fn of(offsets: &Offsets<'_>) -> Self {
        let problems = offsets.problems();
        let total = if problems == 0 { 0 } else { offsets.start(problems) };
        Self { problems, total, largest: offsets.largest() }
    }
}

/// A lower or an upper bound of the projected values.
#[derive(Clone, Copy, Debug)]
pub enum Bound<'a, T> {
    /// One number for all; infinite for none.
    Scalar(T),
    /// A number for every element. Equal lower and upper bounds freeze an element.
    PerElement(Buffer<'a, T>),
}

/// How the batch says which cell each sample is in.
#[derive(Clone, Copy, Debug)]
pub(crate) enum CellInput<'a> {
    Ids(Buffer<'a, u8>),
    Groups(&'a [Buffer<'a, u8>]),
}

/// The inputs of one call, borrowed.
///
/// Elements that cannot be used (a NaN or infinite prediction, a weight that is not positive and finite, a lower bound
/// above its upper bound, a cell id outside the layout, a level or row bound out of range) do not fail the call: the
/// problem that has them ends with [`Status::BadNumber`](crate::Status) and its neighbours are untouched.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a, T> {
    pub(crate) predictions: Buffer<'a, T>,
    pub(crate) offsets: Offsets<'a>,
    pub(crate) cells: Option<CellInput<'a>>,
    pub(crate) labels: Option<Reals<'a>>,
    pub(crate) control: Option<Buffer<'a, u8>>,
    pub(crate) lo: Bound<'a, T>,
    pub(crate) hi: Bound<'a, T>,
    pub(crate) weights: Option<Reals<'a>>,
    pub(crate) levels: Option<Reals<'a>>,
    pub(crate) row_bounds: Option<(Reals<'a>, Reals<'a>)>,
    pub(crate) coefficients: Option<Reals<'a>>,
    pub(crate) warm_start: Option<Reals<'a>>,
}

impl<'a, T: Storage> Batch<'a, T> {
    /// A batch of the given predictions, `[offsets.start(B)]`, without bounds.
    pub fn new(predictions: impl Into<Buffer<'a, T>>, offsets: Offsets<'a>) -> Self {
        Self {
            predictions: predictions.into(),
            offsets,
            cells: None,
            labels: None,
            control: None,
            lo: Bound::Scalar(T::from_f64(f64::NEG_INFINITY)),
            hi: Bound::Scalar(T::from_f64(f64::INFINITY)),
            weights: None,
            levels: None,
            row_bounds: None,
            coefficients: None,
            warm_start: None,
        }
    }

    /// One problem that holds all the predictions.
    pub fn single(predictions: impl Into<Buffer<'a, T>>) -> Self {
        let predictions = predictions.into();
        Self::new(predictions, Offsets::Equal { problems: 1, n: predictions.len() })
    }

    /// The cell of every sample, `[n]`. With one sensitive feature and no strata, a cell is a group.
    #[must_use]
    pub fn cells(self, cells: impl Into<Buffer<'a, u8>>) -> Self {
        Self { cells: Some(CellInput::Ids(cells.into())), ..self }
    }

    /// The group of every sample, `[n]` for each sensitive feature in the order of the population. Cells are computed
    /// from them, and from labels or control values where the criterion is stratified.
    #[must_use]
    pub fn groups(self, groups: &'a [Buffer<'a, u8>]) -> Self {
        Self { cells: Some(CellInput::Groups(groups)), ..self }
    }

    /// The label of every sample, `[n]`; positive when above 0.5. For label strata and residual rows.
    #[must_use]
    pub fn labels(self, labels: impl Into<Reals<'a>>) -> Self {
        Self { labels: Some(labels.into()), ..self }
    }

    /// The control value of every sample, `[n]`, an id below the number of levels.
    #[must_use]
    pub fn control(self, control: impl Into<Buffer<'a, u8>>) -> Self {
        Self { control: Some(control.into()), ..self }
    }

    /// The same bounds for all elements.
    #[must_use]
    pub fn bounds(self, lo: T, hi: T) -> Self {
        Self { lo: Bound::Scalar(lo), hi: Bound::Scalar(hi), ..self }
    }

    /// Bounds for every element, `[n]` each.
    #[must_use]
    pub fn element_bounds(self, lo: impl Into<Buffer<'a, T>>, hi: impl Into<Buffer<'a, T>>) -> Self {
        Self { lo: Bound::PerElement(lo.into()), hi: Bound::PerElement(hi.into()), ..self }
    }

    /// The sample weights, `[n]`, positive: in the distance and in the means alike.
    #[must_use]
    pub fn weights(self, weights: impl Into<Reals<'a>>) -> Self {
        Self { weights: Some(weights.into()), ..self }
    }

    /// The level (epsilon, or ratio) of every spread of every problem, `[B, spreads]`, instead of the constraint set's.
    #[must_use]
    pub fn levels(self, levels: impl Into<Reals<'a>>) -> Self {
        Self { levels: Some(levels.into()), ..self }
    }

    /// The bounds of every bounded row (contrasts, then dense rows) of every problem, `[B, bounded rows]` each, instead of
    /// the constraint set's.
    #[must_use]
    pub fn row_bounds(self, lower: impl Into<Reals<'a>>, upper: impl Into<Reals<'a>>) -> Self {
        Self { row_bounds: Some((lower.into(), upper.into())), ..self }
    }

    /// The coefficients of the dense rows: problem by problem a matrix `[m, n]` of its own `n` samples, row by row. Shared:
    /// one such matrix for all problems, of equal size.
    #[must_use]
    pub fn coefficients(self, coefficients: impl Into<Reals<'a>>) -> Self {
        Self { coefficients: Some(coefficients.into()), ..self }
    }

    /// Multipliers to start from, `[B, rows]`, such as those of the last solution. They never change which answer is
    /// right, but may change its last bits.
    #[must_use]
    pub fn warm_start(self, multipliers: impl Into<Reals<'a>>) -> Self {
        Self { warm_start: Some(multipliers.into()), ..self }
    }

    /// Where the problems lie.
    pub fn offsets(&self) -> Offsets<'a> {
        self.offsets
    }

    /// The number of predictions.
    pub fn total(&self) -> usize {
        self.predictions.len()
    }

    /// Whether all elements have the same bounds and weights.
    pub(crate) fn is_uniform(&self) -> bool {
        matches!((self.lo, self.hi, self.weights), (Bound::Scalar(_), Bound::Scalar(_), None))
    }

    /// Whether every shape fits the constraints and the capacities.
    pub(crate) fn check(&self, set: &ConstraintSet, planned: Capacities) -> Result<()> {
        let total = self.total();
        self.offsets.check(total)?;
        let problems = self.offsets.problems();
        for (what, planned, got) in [
            ("problems", planned.problems, problems),
            ("predictions", planned.total, total),
            ("predictions in one problem", planned.largest, self.offsets.largest()),
        ] {
            if got > planned {
                return Err(Error::Capacity { what, planned, got });
            }
        }
        let element = Expected { per_problem: total, shared: self.offsets.common_size() };
        let rows = |count: usize| Expected { per_problem: problems * count, shared: Some(count) };
        self.predictions.check("predictions", Expected { shared: None, ..element })?;
        self.check_cells(set, element)?;
        if let Some(labels) = &self.labels {
            labels.check("labels", element)?;
        } else if set.needs_label_means() {
            return Err(Error::Missing { what: "labels", hint: "Batch::labels" });
        }
        if let Some(control) = &self.control {
            control.check("control", element)?;
        }
        if let Some(weights) = &self.weights {
            weights.check("weights", element)?;
        }
        self.check_bounds(set, element)?;
        if let Some(levels) = &self.levels {
            levels.check("levels", rows(set.spreads().len()))?;
        }
        if let Some((lower, upper)) = &self.row_bounds {
            lower.check("lower row bounds", rows(set.bounded_rows()))?;
            upper.check("upper row bounds", rows(set.bounded_rows()))?;
        }
        let dense = set.dense().len();
        match &self.coefficients {
            Some(coefficients) => {
                let times = |elements: usize| elements.saturating_mul(dense);
                let expected = Expected { per_problem: times(total), shared: element.shared.map(times) };
                coefficients.check("coefficients (dense rows times samples)", expected)?;
            }
            None if dense > 0 => {
                return Err(Error::Missing { what: "coefficients of the dense rows", hint: "Batch::coefficients" });
            }
            None => {}
        }
        self.warm_start.map_or(Ok(()), |start| start.check("warm start", rows(set.rows())))
    }

    /// Whether every array lies where it may: on the host, or, if kernels read it as it is, at `home`.
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    pub(crate) fn check_places(&self, set: &ConstraintSet, home: Home) -> Result<()> {
        // (WGSL has no double precision, in which the CUDA kernels read what belongs to rows.)
        let double = match home {
            #[cfg(feature = "cuda")]
            Home::Cuda => home,
            _ => Home::Host,
        };
        self.predictions.check_place("predictions", home)?;
        match self.cells {
            None => {}
            Some(CellInput::Ids(ids)) => ids.check_place("cells", home)?,
            // Groups that are cells are read where they lie.
            Some(CellInput::Groups(groups)) => {
                let are_cells = groups.len() == 1 && set.layout().strata() == Strata::None;
                let home = if are_cells { home } else { Home::Host };
                groups.iter().try_for_each(|ids| ids.check_place("groups", home))?;
            }
        }
        self.control.map_or(Ok(()), |control| control.check_place("control", home))?;
        self.labels.map_or(Ok(()), |labels| labels.check_place("labels", [home, double]))?;
        self.weights.map_or(Ok(()), |weights| weights.check_place("weights", [home, double]))?;
        for (what, bound) in [("lower bounds", self.lo), ("upper bounds", self.hi)] {
            if let Bound::PerElement(buffer) = bound {
                buffer.check_place(what, home)?;
            }
        }
        let (lower, upper) = self.row_bounds.unzip();
        let of_rows = [
            ("levels", self.levels, double),
            ("lower row bounds", lower, double),
            ("upper row bounds", upper, double),
            ("warm start", self.warm_start, double),
            ("coefficients", self.coefficients, Home::Host),
        ];
        of_rows.into_iter().try_for_each(|(what, reals, double)| {
            reals.map_or(Ok(()), |reals| reals.check_place(what, [Home::Host, double]))
        })
    }

    /// Whether this is a gradient to the outputs, `[n]`.
    pub(crate) fn check_output_gradient(&self, g: &Buffer<'_, T>) -> Result<()> {
        g.check("the gradient to the outputs", Expected { per_problem: self.total(), shared: None })
    }

    fn check_cells(&self, set: &ConstraintSet, element: Expected) -> Result<()> {
        let hint = "Batch::groups or Batch::cells";
        if self.cells.is_none() && !set.needs_cells() {
            return Ok(());
        }
        match self.cells.ok_or(Error::Missing { what: "the samples' groups or cells", hint })? {
            CellInput::Ids(ids) => ids.check("cells", element),
            CellInput::Groups(groups) => {
                let expected = set.layout().group_counts().len();
                if groups.len() != expected {
                    return Err(Error::Shape { what: "groups (one array a feature)", expected, got: groups.len() });
                }
                groups.iter().try_for_each(|ids| ids.check("groups", element))?;
                match set.layout().strata() {
                    Strata::Label if self.labels.is_none() => {
                        Err(Error::Missing { what: "labels", hint: "Batch::labels" })
                    }
                    Strata::Control { .. } if self.control.is_none() => {
                        Err(Error::Missing { what: "control values", hint: "Batch::control" })
                    }
                    _ => Ok(()),
                }
            }
        }
    }

    fn check_bounds(&self, set: &ConstraintSet, element: Expected) -> Result<()> {
        for (what, bound) in [("lower bounds", self.lo), ("upper bounds", self.hi)] {
            if let Bound::PerElement(buffer) = bound {
                buffer.check(what, element)?;
            }
        }
        if let Bound::Scalar(lo) = self.lo {
            let lo = lo.to_f64();
            let hi = if let Bound::Scalar(hi) = self.hi { hi.to_f64() } else { f64::INFINITY };
            if !(lo <= hi && lo < f64::INFINITY && hi > f64::NEG_INFINITY) {
                return Err(Error::value("bounds", format!("[{lo}, {hi}] holds no number")));
            }
            let ratio = |spread: &crate::Spread| matches!(spread.limit, crate::SpreadLimit::Ratio(_));
            if lo < 0.0 && set.spreads().iter().any(ratio) {
                return Err(Error::value("bounds", format!("a ratio needs lower bounds >= 0, not {lo}")));
            }
        }
        Ok(())
    }

    /// Problem `index` of a checked batch.
    pub(crate) fn problem(&self, index: usize, set: &ConstraintSet) -> Problem<'a, T> {
        let range = self.offsets.range(index);
        let rows = |count: usize| index * count..(index + 1) * count;
        let bound = |bound: &Bound<'a, T>| match bound {
            Bound::Scalar(value) => BoundSlice::Scalar(*value),
            Bound::PerElement(buffer) => BoundSlice::PerElement(buffer.part(&range)),
        };
        Problem {
            z: self.predictions.part(&range),
            cells: match self.cells {
                None => CellSource::None,
                Some(CellInput::Ids(ids)) => CellSource::Ids(ids.part(&range)),
                Some(CellInput::Groups([only])) if set.layout().strata() == Strata::None => {
                    CellSource::Ids(only.part(&range))
                }
                Some(CellInput::Groups(groups)) => CellSource::Groups { groups, range: range.clone() },
            },
            labels: self.labels.map(|labels| labels.part(&range)),
            control: self.control.map(|control| control.part(&range)),
            lo: bound(&self.lo),
            hi: bound(&self.hi),
            weights: self.weights.map(|weights| weights.part(&range)),
            levels: self.levels.map(|levels| levels.part(&rows(set.spreads().len()))),
            row_bounds: self
                .row_bounds
                .map(|(lower, upper)| (lower.part(&rows(set.bounded_rows())), upper.part(&rows(set.bounded_rows())))),
            coefficients: self.coefficients.map(|coefficients| {
                let dense = set.dense().len();
                coefficients.part(&(dense * range.start..dense * range.end))
            }),
            warm_start: self.warm_start.map(|start| start.part(&rows(set.rows()))),
        }
    }
}

/// A part of a [`Reals`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum RealSlice<'a> {
    F32(&'a [f32]),
    F64(&'a [f64]),
}

impl<'a> RealSlice<'a> {
    /// A part of it.
    pub(crate) fn slice(&self, range: std::ops::Range<usize>) -> RealSlice<'a> {
        match self {
            Self::F32(slice) => RealSlice::F32(&slice[range]),
            Self::F64(slice) => RealSlice::F64(&slice[range]),
        }
    }

    #[inline(always)]
    pub(crate) fn at(&self, index: usize) -> f64 {
        match self {
            Self::F32(slice) => f64::from(slice[index]),
            Self::F64(slice) => slice[index],
        }
    }
}

/// The bounds of one problem.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BoundSlice<'a, T> {
    Scalar(T),
    PerElement(&'a [T]),
}

impl<T: Storage> BoundSlice<'_, T> {
    #[inline(always)]
    pub(crate) fn at(&self, index: usize) -> T {
        match self {
            Self::Scalar(value) => *value,
            Self::PerElement(slice) => slice[index],
        }
    }
}

/// The cells of one problem, as ids or yet to be computed.
#[derive(Clone, Debug)]
pub(crate) enum CellSource<'a> {
    /// No row is about cells.
    None,
    Ids(&'a [u8]),
    Groups {
        groups: &'a [Buffer<'a, u8>],
        range: std::ops::Range<usize>,
    },
}

impl<'a> CellSource<'a> {
    /// The group ids of one feature.
    pub(crate) fn feature(groups: &'a [Buffer<'a, u8>], feature: usize, range: &std::ops::Range<usize>) -> &'a [u8] {
        groups[feature].part(range)
    }
}

/// One problem's inputs, as the kernels read them.
#[derive(Clone, Debug)]
pub(crate) struct Problem<'a, T> {
    pub(crate) z: &'a [T],
    pub(crate) cells: CellSource<'a>,
    pub(crate) labels: Option<RealSlice<'a>>,
    pub(crate) control: Option<&'a [u8]>,
    pub(crate) lo: BoundSlice<'a, T>,
    pub(crate) hi: BoundSlice<'a, T>,
    pub(crate) weights: Option<RealSlice<'a>>,
    pub(crate) levels: Option<RealSlice<'a>>,
    pub(crate) row_bounds: Option<(RealSlice<'a>, RealSlice<'a>)>,
    /// `[m, n]`: of the dense rows.
    pub(crate) coefficients: Option<RealSlice<'a>>,
    pub(crate) warm_start: Option<RealSlice<'a>>,
}

impl<T: Storage> Problem<'_, T> {
    /// The bounds of element `index`.
    #[inline(always)]
    pub(crate) fn bounds(&self, index: usize) -> (T::Arithmetic, T::Arithmetic) {
        (self.lo.at(index).widen(), self.hi.at(index).widen())
    }

    /// The weight of element `index`.
    #[inline(always)]
    pub(crate) fn weight(&self, index: usize) -> f64 {
        self.weights.map_or(1.0, |weights| weights.at(index))
    }
}
