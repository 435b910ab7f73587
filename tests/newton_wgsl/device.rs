//! A device, and a kernel on it.

use wgpu::util::DeviceExt;

pub struct Gpu {
    device: wgpu::Device,
    queue: wgpu::Queue,
    pipeline: wgpu::ComputePipeline,
}

impl Gpu {
    /// With the entry `main` of a shader. `Err` says why there is no device.
    pub fn new(shader: &str) -> Result<Self, String> {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let adapter = pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default()))
            .map_err(|error| error.to_string())?;
        let limits = wgpu::Limits {
            max_compute_workgroup_storage_size: adapter.limits().max_compute_workgroup_storage_size,
            ..wgpu::Limits::default()
        };
        let descriptor = wgpu::DeviceDescriptor { required_limits: limits, ..Default::default() };
        let (device, queue) =
            pollster::block_on(adapter.request_device(&descriptor)).map_err(|error| error.to_string())?;
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some("newton"),
            source: wgpu::ShaderSource::Wgsl(shader.into()),
        });
        let start = std::time::Instant::now();
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some("newton"),
            layout: None,
            module: &module,
            entry_point: Some("main"),
            compilation_options: Default::default(),
            cache: None,
        });
        println!("{}: pipeline in {:.2?}", adapter.get_info().name, start.elapsed());
        Ok(Self { device, queue, pipeline })
    }

    /// Runs so many workgroups, `repeats` times over, on arrays of words at the bindings from 1 on: inputs, then those that
    /// are returned as the last repeat leaves them.
    pub fn run<const N: usize>(
        &self,
        groups: usize,
        repeats: usize,
        inputs: &[&[u32]],
        outputs: [&[u32]; N],
    ) -> [Vec<u32>; N] {
        let words = |contents: &[u32], usage| {
            let contents = bytemuck::cast_slice(contents);
            self.device.create_buffer_init(&wgpu::util::BufferInitDescriptor { label: None, contents, usage })
        };
        let storage = wgpu::BufferUsages::STORAGE;
        let zero = words(&[0; 4], wgpu::BufferUsages::UNIFORM);
        let inputs: Vec<_> = inputs.iter().map(|input| words(input, storage)).collect();
        let outputs = outputs.map(|output| words(output, storage | wgpu::BufferUsages::COPY_SRC));
        let entries: Vec<_> = (std::iter::once(&zero).chain(&inputs).chain(&outputs).zip(0..))
            .map(|(buffer, binding)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
            .collect();
        let layout = &self.pipeline.get_bind_group_layout(0);
        let bind_group = wgpu::BindGroupDescriptor { label: None, layout, entries: &entries };
        let bind_group = self.device.create_bind_group(&bind_group);
        let mut encoder = self.device.create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            pass.set_pipeline(&self.pipeline);
            pass.set_bind_group(0, &bind_group, &[]);
            (0..repeats).for_each(|_| pass.dispatch_workgroups(groups as u32, 1, 1));
        }
        let reads = outputs.each_ref().map(|buffer| {
            let (size, usage) = (buffer.size(), wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST);
            let read = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
            let read = self.device.create_buffer(&read);
            encoder.copy_buffer_to_buffer(buffer, 0, &read, 0, size);
            read
        });
        self.queue.submit([encoder.finish()]);
        reads.iter().for_each(|read| read.slice(..).map_async(wgpu::MapMode::Read, |mapped| mapped.unwrap()));
        self.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        reads.map(|read| bytemuck::cast_slice(&read.slice(..).get_mapped_range().unwrap()).to_vec())
    }
}
