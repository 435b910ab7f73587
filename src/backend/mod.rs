//! The devices that projections run on: which there are, and why others are not. Knows no fairness word.

pub(crate) mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
#[cfg(feature = "wgpu")]
pub(crate) mod wgpu;

/// The cells that kernels for GPUs take at the most.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
pub(crate) const MAX_GPU_CELLS: usize = 32;
/// The rows likewise.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
pub(crate) const MAX_GPU_ROWS: usize = 32;

/// Where projections run. Clones of a GPU share what was opened and compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Device {
    /// All cores of this machine.
    Cpu,
    /// An NVIDIA GPU.
    #[cfg(feature = "cuda")]
    Cuda(cuda::CudaDevice),
    /// A GPU through wgpu.
    #[cfg(feature = "wgpu")]
    Wgpu(wgpu::WgpuDevice),
}

impl Device {
    /// All cores of this machine.
    pub fn cpu() -> Self {
        Self::Cpu
    }

    /// The NVIDIA GPU of this number, as the driver counts them, with a stream of its own.
    ///
    /// It takes all constraint sets of up to 32 rows and 32 cells, by both methods, in all number types.
    ///
    /// # Errors
    /// There is no driver, no such GPU, or no NVRTC to compile kernels with; the message says what to install.
    #[cfg(feature = "cuda")]
    pub fn cuda(ordinal: usize) -> crate::Result<Self> {
        cuda::CudaDevice::open(ordinal).map(Self::Cuda)
    }

    /// A CUDA stream of the caller's own: all work goes to it, in order.
    ///
    /// # Errors
    /// As [`cuda`](Self::cuda).
    #[cfg(feature = "cuda")]
    pub fn of_cuda(stream: std::sync::Arc<cudarc::driver::CudaStream>) -> crate::Result<Self> {
        cuda::CudaDevice::on(stream).map(Self::Cuda)
    }

    /// A library that runs the CUDA kernels on the CPU: the tests build it.
    #[cfg(feature = "cuda")]
    #[doc(hidden)]
    pub fn emulated_cuda(library: &std::path::Path) -> crate::Result<Self> {
        cuda::CudaDevice::emulated(library).map(Self::Cuda)
    }

    /// A GPU of any vendor, through Vulkan, Metal or DirectX 12: the one that the environment variable
    /// `FAIRLAYER_WGPU_ADAPTER` names (a part of its name is enough), or else a real GPU before one that the CPU emulates.
    ///
    /// # Errors
    /// No such adapter, or one that cannot be used; the message says why.
    #[cfg(feature = "wgpu")]
    pub fn wgpu() -> crate::Result<Self> {
        wgpu::WgpuDevice::first().map(Self::Wgpu)
    }

    /// The adapter with this in its name, whatever the case: see [`devices`].
    ///
    /// # Errors
    /// As [`wgpu`](Self::wgpu).
    #[cfg(feature = "wgpu")]
    pub fn wgpu_named(name: &str) -> crate::Result<Self> {
        wgpu::WgpuDevice::named(name).map(Self::Wgpu)
    }

    /// A wgpu device of the caller's own, for data that is on it already. All work goes to this queue. Where it was opened
    /// with `Features::SUBGROUP`, kernels use subgroups.
    ///
    /// # Errors
    /// It was opened with limits that are too low; the message says which.
    #[cfg(feature = "wgpu")]
    pub fn of_wgpu(device: ::wgpu::Device, queue: ::wgpu::Queue) -> crate::Result<Self> {
        wgpu::WgpuDevice::of(device, queue).map(Self::Wgpu)
    }

    /// `cpu`, `wgpu` or `cuda`: what the command line's `--device` takes, as in [`DeviceInfo::kind`].
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            #[cfg(feature = "cuda")]
            Self::Cuda(_) => "cuda",
            #[cfg(feature = "wgpu")]
            Self::Wgpu(_) => "wgpu",
        }
    }

    /// The fastest device that can be used, and why the faster ones cannot: CUDA, then a GPU through wgpu, then the CPU.
    pub fn auto() -> (Self, Vec<DeviceInfo>) {
        let mut passed_over: Vec<DeviceInfo> = cuda_devices().into_iter().map(not_by_itself).collect();
        #[cfg(feature = "wgpu")]
        for adapter in wgpu::adapters() {
            let info = adapter.info();
            if adapter.is_gpu() {
                match adapter.open() {
                    Ok(device) => return (Self::Wgpu(device), passed_over),
                    Err(error) => passed_over.push(DeviceInfo { usable: Err(error.to_string()), ..info }),
                }
            } else {
                let why = info.usable.err().unwrap_or_else(|| "it is no GPU: the CPU emulates it".into());
                passed_over.push(DeviceInfo { usable: Err(why), ..info });
            }
        }
        passed_over.extend(no_wgpu(&passed_over));
        (Self::Cpu, passed_over)
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

fn cuda_devices() -> Vec<DeviceInfo> {
    #[cfg(feature = "cuda")]
    return cuda::list();
    #[cfg(not(feature = "cuda"))]
    vec![DeviceInfo {
        name: "NVIDIA GPU".into(),
        kind: "cuda",
        usable: Err("this fairlayer was built without the feature cuda".into()),
    }]
}

/// The same of a kind of device whose kernels have run nowhere but in an emulation yet, and so is not chosen by itself.
fn not_by_itself(info: DeviceInfo) -> DeviceInfo {
    let usable = info.usable.and(Err("its kernels have not run on a GPU yet; ask for it by name".into()));
    DeviceInfo { usable, ..info }
}

/// Why there is no wgpu device, if the list has none.
fn no_wgpu(list: &[DeviceInfo]) -> Option<DeviceInfo> {
    let reason = if cfg!(feature = "wgpu") {
        "no adapter was found; install a Vulkan driver (Debian: mesa-vulkan-drivers libvulkan1)"
    } else {
        "this fairlayer was built without the feature wgpu"
    };
    let name = "any GPU, through Vulkan, Metal or DirectX".into();
    let none = list.iter().all(|device| device.kind != "wgpu");
    none.then(|| DeviceInfo { name, kind: "wgpu", usable: Err(reason.into()) })
}

/// All devices, usable or not. Of wgpu's, the one that `Device::wgpu` takes comes first.
pub fn devices() -> Vec<DeviceInfo> {
    ["cpu", "wgpu", "cuda"].into_iter().flat_map(devices_of).collect()
}

/// The devices of a kind (`cpu`, `wgpu` or `cuda`), usable or not; others are not looked at.
pub fn devices_of(kind: &str) -> Vec<DeviceInfo> {
    match kind {
        "cpu" => vec![DeviceInfo { name: "CPU".into(), kind: "cpu", usable: Ok(cpu::describe()) }],
        "wgpu" => {
            #[cfg(feature = "wgpu")]
            let mut list: Vec<DeviceInfo> = wgpu::adapters().iter().map(wgpu::Found::info).collect();
            #[cfg(not(feature = "wgpu"))]
            let mut list = Vec::new();
            list.extend(no_wgpu(&list));
            list
        }
        "cuda" => cuda_devices(),
        _ => Vec::new(),
    }
}
