//! Adapters, which of them can be used, and an opened one with its compiled pipelines.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::large::Tiling;
use super::shaders::{Dialect, Kernel, Variant};
use crate::backend::DeviceInfo;
use crate::error::{Error, Result};

/// A part of the name of the adapter to take instead of the first real GPU.
const ADAPTER_VARIABLE: &str = "FAIRLAYER_WGPU_ADAPTER";
/// Storage buffers that the widest kernel binds.
const STORAGE_BUFFERS: u32 = 18;
/// Bytes of workgroup memory that the widest kernel uses.
pub(super) const WORKGROUP_BYTES: u32 = 32768;
/// Lanes of the largest workgroup.
pub(super) const WORKGROUP_LANES: u32 = 256;

/// An opened wgpu device with its queue and compiled kernels. Clones share them.
#[derive(Clone, Debug)]
pub struct WgpuDevice {
    inner: Arc<Inner>,
    tiling: Tiling,
    is_taken_for_gpu: bool,
}

#[derive(Debug)]
struct Inner {
    device: wgpu::Device,
    queue: wgpu::Queue,
    limits: wgpu::Limits,
    name: String,
    /// What went wrong first, if anything did.
    failure: Arc<Mutex<Option<String>>>,
    /// For elements of 32 bits and of 16.
    modules: Mutex<HashMap<(Kernel, Dialect), wgpu::ShaderModule>>,
    pipelines: Mutex<HashMap<Variant, wgpu::ComputePipeline>>,
    layouts: HashMap<Kernel, (wgpu::BindGroupLayout, wgpu::PipelineLayout)>,
}

impl PartialEq for WgpuDevice {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}

impl Eq for WgpuDevice {}

/// An adapter, as lists name it.
pub(crate) struct Found {
    adapter: wgpu::Adapter,
    info: wgpu::AdapterInfo,
    lack: Option<String>,
}

/// All adapters, real GPUs first.
fn find() -> Vec<Found> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::PRIMARY;
    // (The counts of indirect dispatches are our own kernels', and a look at each costs more than the dispatch.)
    descriptor.flags.remove(wgpu::InstanceFlags::VALIDATION_INDIRECT_CALL);
    let instance = wgpu::Instance::new(descriptor);
    let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY));
    let with_lack = |adapter: wgpu::Adapter| {
        let (info, lack) = (adapter.get_info(), lack(&adapter));
        Found { adapter, info, lack }
    };
    let mut found: Vec<Found> = adapters.into_iter().map(with_lack).collect();
    found.sort_by_key(|found| rank(found.info.device_type));
    found
}

/// The order in which adapters are taken.
fn rank(kind: wgpu::DeviceType) -> u32 {
    match kind {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    }
}

/// What an adapter lacks that the kernels need.
fn lack(adapter: &wgpu::Adapter) -> Option<String> {
    let limits = adapter.limits();
    if !adapter.get_downlevel_capabilities().flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS) {
        return Some("it has no compute shaders".into());
    }
    [
        ("storage buffers in a shader", STORAGE_BUFFERS, limits.max_storage_buffers_per_shader_stage),
        ("bytes of workgroup memory", WORKGROUP_BYTES, limits.max_compute_workgroup_storage_size),
        ("lanes in a workgroup", WORKGROUP_LANES, limits.max_compute_invocations_per_workgroup),
    ]
    .into_iter()
    .find(|(_, needed, has)| has < needed)
    .map(|(what, needed, has)| format!("it has {has} {what}, and {needed} are needed"))
}

impl Found {
    fn describe(&self) -> String {
        let (info, limits, features) = (&self.info, self.adapter.limits(), self.adapter.features());
        let mib = |bytes: u64| bytes >> 20;
        let feature = |name: &str, flag: wgpu::Features| features.contains(flag).then(|| name.to_owned());
        let driver = [&info.driver[..], &info.driver_info[..]].join(" ");
        let mut parts = vec![
            format!("{:?} through {}, driver {}", info.device_type, info.backend, driver.trim()),
            format!("binds {} MiB of {} MiB", mib(limits.max_storage_buffer_binding_size), mib(limits.max_buffer_size)),
            format!("workgroups of {} lanes", limits.max_compute_invocations_per_workgroup),
            format!("{} KiB", limits.max_compute_workgroup_storage_size >> 10),
        ];
        parts.extend(feature("subgroups", wgpu::Features::SUBGROUP));
        parts.push("f16, bf16, f32".to_owned());
        parts.join("; ")
    }

    pub(crate) fn is_gpu(&self) -> bool {
        self.lack.is_none() && self.info.device_type != wgpu::DeviceType::Cpu
    }

    pub(crate) fn info(&self) -> DeviceInfo {
        let usable = match &self.lack {
            None => Ok(self.describe()),
            Some(lack) => Err(lack.clone()),
        };
        DeviceInfo { name: self.info.name.clone(), kind: "wgpu", usable }
    }

    pub(crate) fn open(&self) -> Result<WgpuDevice> {
        let problem = |problem: String| Error::Device { device: self.info.name.clone(), problem };
        if let Some(lack) = &self.lack {
            return Err(problem(lack.clone()));
        }
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("fairlayer"),
            required_limits: self.adapter.limits(),
            required_features: self.adapter.features() & wgpu::Features::SUBGROUP,
            ..Default::default()
        };
        let (device, queue) = pollster::block_on(self.adapter.request_device(&descriptor))
            .map_err(|error| problem(format!("it cannot be opened: {error}")))?;
        let failure = Arc::new(Mutex::new(None));
        let note = |failure: &Arc<Mutex<Option<String>>>| {
            let failure = failure.clone();
            move |what: String| {
                locked(&failure).get_or_insert(what);
            }
        };
        let (note_error, note_loss) = (note(&failure), note(&failure));
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| note_error(error.to_string())));
        device.set_device_lost_callback(move |reason, message| {
            if reason != wgpu::DeviceLostReason::Destroyed {
                note_loss(format!("the device was lost ({message}); open it anew and plan again"));
            }
        });
        Ok(WgpuDevice::with(device, queue, self.info.name.clone(), failure))
    }
}

/// The adapters that there are.
pub(crate) fn adapters() -> Vec<Found> {
    find()
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl WgpuDevice {
    /// The adapter that the environment names, or the first usable one, real GPUs first.
    pub(crate) fn first() -> Result<Self> {
        let wanted = std::env::var(ADAPTER_VARIABLE).ok().filter(|name| !name.is_empty());
        Self::named(wanted.as_deref().unwrap_or(""))
    }

    /// The first usable adapter with this in its name, whatever the case; real GPUs first.
    pub(crate) fn named(name: &str) -> Result<Self> {
        let fits = |found: &&Found| found.info.name.to_lowercase().contains(&name.to_lowercase());
        let all = find();
        let mut fitting: Vec<&Found> = all.iter().filter(fits).collect();
        fitting.sort_by_key(|found| found.lack.is_some());
        match fitting.first() {
            Some(found) => found.open(),
            None if all.is_empty() => Err(Error::Device {
                device: "wgpu".into(),
                problem: "no adapter was found; install a Vulkan driver (Debian: mesa-vulkan-drivers libvulkan1)"
                    .into(),
            }),
            None => Err(Error::Device {
                device: "wgpu".into(),
                problem: format!("no adapter is called {name:?}; see `fairlayer devices`"),
            }),
        }
    }

    /// A device that the user has opened.
    pub(crate) fn of(device: wgpu::Device, queue: wgpu::Queue) -> Result<Self> {
        let (limits, name) = (device.limits(), device.adapter_info().name);
        let (needed, has) = (STORAGE_BUFFERS, limits.max_storage_buffers_per_shader_stage);
        if has < needed {
            let problem = format!(
                "it was opened for {has} storage buffers in a shader; raise max_storage_buffers_per_shader_stage to {needed}"
            );
            return Err(Error::Device { device: name, problem });
        }
        Ok(Self::with(device, queue, name, Arc::default()))
    }

    fn with(device: wgpu::Device, queue: wgpu::Queue, name: String, failure: Arc<Mutex<Option<String>>>) -> Self {
        let limits = device.limits();
        let layouts = Kernel::ALL.into_iter().map(|kernel| (kernel, kernel.layouts(&device))).collect();
        let (modules, pipelines) = (Mutex::default(), Mutex::default());
        let inner = Inner { device, queue, limits, name, failure, modules, pipelines, layouts };
        Self { inner: Arc::new(inner), tiling: Tiling::default(), is_taken_for_gpu: false }
    }

    /// Whether the CPU emulates it.
    pub(crate) fn is_emulated(&self) -> bool {
        self.inner.device.adapter_info().device_type == wgpu::DeviceType::Cpu
    }

    /// The same device, which shares problems of more than `above` predictions among workgroups, in tiles of `tile`, where it
    /// would do so with much larger ones only; and gives up after so many passes. For tests: so the ways for large problems
    /// can be tried on small ones.
    #[doc(hidden)]
    pub fn in_tiles(self, above: usize, tile: usize, passes: u32) -> Self {
        Self { tiling: Tiling::new(above, tile, passes), ..self }
    }

    /// The same device, worked with as if it were no emulation: in the workgroups that GPUs get, and by subgroups if it has
    /// them. For tests, of those shapes on a device that would get others.
    #[doc(hidden)]
    pub fn as_gpu(self) -> Self {
        Self { is_taken_for_gpu: true, ..self }
    }

    /// Whether its workgroups are those of GPUs.
    pub(crate) fn has_gpu_sizes(&self) -> bool {
        self.is_taken_for_gpu || !self.is_emulated()
    }

    /// Whether lanes work together by subgroups. (Where these are emulated, nothing is gained.)
    pub(crate) fn has_subgroups(&self) -> bool {
        self.has_gpu_sizes() && self.inner.device.features().contains(wgpu::Features::SUBGROUP)
    }

    pub(crate) fn tiling(&self) -> Tiling {
        self.tiling
    }

    /// The wgpu device.
    pub fn device(&self) -> &wgpu::Device {
        &self.inner.device
    }

    /// The wgpu queue that all work is submitted to.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.inner.queue
    }

    pub(crate) fn limits(&self) -> &wgpu::Limits {
        &self.inner.limits
    }

    pub(crate) fn bind_group_layout(&self, kernel: Kernel) -> &wgpu::BindGroupLayout {
        &self.inner.layouts[&kernel].0
    }

    /// The pipeline of a variant, compiled when it is first asked for.
    pub(crate) fn pipeline(&self, variant: Variant) -> wgpu::ComputePipeline {
        let Inner { device, modules, pipelines, layouts, .. } = &*self.inner;
        let mut pipelines = locked(pipelines);
        let compile = || {
            let mut modules = locked(modules);
            let (kernel, dialect) = (variant.kernel, variant.dialect());
            let module = modules.entry((kernel, dialect)).or_insert_with(|| kernel.module(device, dialect));
            variant.compile(device, module, &layouts[&variant.kernel].1)
        };
        pipelines.entry(variant).or_insert_with(compile).clone()
    }

    /// An error if anything went wrong on the device.
    pub(crate) fn check(&self) -> Result<()> {
        match &*locked(&self.inner.failure) {
            None => Ok(()),
            Some(problem) => Err(self.failed(problem.clone())),
        }
    }

    pub(crate) fn failed(&self, problem: String) -> Error {
        Error::Device { device: self.inner.name.clone(), problem }
    }

    /// Waits until everything submitted is done.
    pub(crate) fn wait(&self) -> Result<()> {
        match self.inner.device.poll(wgpu::PollType::wait_indefinitely()) {
            Ok(_) => self.check(),
            Err(error) => Err(self.failed(format!("it does not answer: {error}"))),
        }
    }
}
