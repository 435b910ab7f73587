//! The devices that projections run on: which there are, and why others are not. Knows no fairness word.

pub(crate) mod cpu;

/// Where projections run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Device {
    /// All cores of this machine.
    Cpu,
}

impl Device {
    /// All cores of this machine.
    pub fn cpu() -> Self {
        Self::Cpu
    }

    /// `cpu`, `wgpu` or `cuda`: what the command line's `--device` takes, as in [`DeviceInfo::kind`].
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
        }
    }

    /// The fastest device that can be used, and why the faster ones cannot: CUDA, then a GPU through wgpu, then the CPU.
    pub fn auto() -> (Self, Vec<DeviceInfo>) {
        (Self::Cpu, devices().into_iter().filter(|device| device.usable.is_err()).collect())
    }
}

/// A kind of device, for lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// The device's own name.
    pub name: String,
    /// `cpu`, `wgpu` or `cuda`: what the command line's `--device` takes.
    pub kind: &'static str,
    /// What it offers, or why it cannot be used.
    pub usable: Result<String, String>,
}

/// All kinds of devices, usable or not.
pub fn devices() -> Vec<DeviceInfo> {
    let absent = |kind, name: &str| DeviceInfo {
        name: name.into(),
        kind,
        usable: Err(format!("fairlayer {} has no {kind} kernels yet; use cpu", env!("CARGO_PKG_VERSION"))),
    };
    vec![
        DeviceInfo { name: "CPU".into(), kind: "cpu", usable: Ok(cpu::describe()) },
        absent("wgpu", "any GPU, through Vulkan, Metal or DirectX"),
        absent("cuda", "NVIDIA GPU"),
    ]
}
