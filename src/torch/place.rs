//! Where tensors lie, and so what projects them.

use tch::Tensor;

use crate::backend::Device;
use crate::error::{Error, Result};

/// Where tensors lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place {
    Host,
    /// On an NVIDIA GPU, whose work torch gives to this stream: a handle of CUDA's, as a number.
    #[cfg(feature = "cuda")]
    Gpu {
        ordinal: usize,
        stream: u64,
    },
}

impl Place {
    pub(super) fn of(tensor: &Tensor) -> Result<Self> {
        match tensor.device() {
            tch::Device::Cpu => Ok(Self::Host),
            #[cfg(feature = "cuda")]
            tch::Device::Cuda(ordinal) => Ok(Self::Gpu { ordinal, stream: super::memory::stream_of(tensor)? }),
            other => {
                let what = format!("predictions on {other:?}");
                let instead = "have them on the CPU, or on an NVIDIA GPU with the feature cuda";
                Err(Error::Unsupported { device: "the layer for torch", what, instead })
            }
        }
    }

    /// The device that projects there.
    pub(super) fn device(self) -> Result<Device> {
        match self {
            Self::Host => Ok(Device::cpu()),
            #[cfg(feature = "cuda")]
            Self::Gpu { ordinal, stream } => super::memory::device_of(ordinal, stream),
        }
    }
}
