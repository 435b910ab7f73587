//! GPUs, which of them can be used, and an opened one.

use std::path::Path;
use std::sync::Arc;

use super::compile::find_nvrtc;
use super::driver::Driver;
use super::emulated::{Asked, Emulated};
use super::real::{self, Real};
use crate::backend::DeviceInfo;
use crate::error::{Error, Result};

/// An opened NVIDIA GPU: a context, a stream that all work goes to, and compiled kernels. Clones share them.
#[derive(Clone, Debug)]
pub struct CudaDevice {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    driver: Driver,
    name: String,
}

impl PartialEq for CudaDevice {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}

impl Eq for CudaDevice {}

impl CudaDevice {
    /// The GPU of this number, with a stream of its own.
    pub(crate) fn open(ordinal: usize) -> Result<Self> {
        let problem = |problem: String| Error::Device { device: "cuda".into(), problem };
        let count = real::count().map_err(problem)?;
        if ordinal >= count {
            return Err(problem(format!("there are {count} GPUs, and none of number {ordinal}")));
        }
        let (name, _) = real::describe(ordinal).map_err(problem)?;
        let opened = Real::open(ordinal);
        let driver = opened.map_err(|problem| Error::Device { device: name.clone(), problem })?;
        Ok(Self { inner: Arc::new(Inner { driver: Driver::Real(driver), name }) })
    }

    /// A stream of the caller's.
    pub(crate) fn on(stream: Arc<cudarc::driver::CudaStream>) -> Result<Self> {
        let problem = |problem: String| Error::Device { device: "cuda".into(), problem };
        let name = stream.context().name().map_err(|error| problem(format!("the GPU cannot be asked: {error}")))?;
        let driver = Driver::Real(Real::on(stream).map_err(problem)?);
        Ok(Self { inner: Arc::new(Inner { driver, name }) })
    }

    /// A library that runs the kernels on the CPU, which the tests build.
    pub(crate) fn emulated(library: &Path) -> Result<Self> {
        let name = "emulated GPU".to_owned();
        let opened = Emulated::open(library);
        let driver = opened.map_err(|problem| Error::Device { device: name.clone(), problem })?;
        Ok(Self { inner: Arc::new(Inner { driver: Driver::Emulated(driver), name }) })
    }

    /// What an emulated device was asked for, for the tests; nothing of a GPU.
    #[doc(hidden)]
    #[must_use]
    pub fn asked(&self) -> Option<&Asked> {
        match &self.inner.driver {
            Driver::Real(_) => None,
            Driver::Emulated(emulated) => Some(emulated.asked()),
        }
    }

    pub(super) fn driver(&self) -> &Driver {
        &self.inner.driver
    }

    /// An error of this device.
    pub(super) fn failed(&self, problem: String) -> Error {
        Error::Device { device: self.inner.name.clone(), problem }
    }
}

/// The GPUs that there are, or why none can be used.
pub(crate) fn list() -> Vec<DeviceInfo> {
    let info = |name: String, usable| DeviceInfo { name, kind: "cuda", usable };
    let count = match real::count() {
        Ok(count) => count,
        Err(why) => return vec![info("NVIDIA GPU".into(), Err(why))],
    };
    let of_device = |ordinal| match real::describe(ordinal) {
        Ok((name, properties)) => info(name, find_nvrtc().map(|()| properties)),
        Err(why) => info(format!("NVIDIA GPU {ordinal}"), Err(why)),
    };
    (0..count).map(of_device).collect()
}
