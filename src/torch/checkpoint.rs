//! What a training leaves to the process that goes on with it: one file of the form safetensors, with all that is not a
//! tensor as JSON in its header. One file, so that no two can be of different epochs.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, View};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor, nn};

use super::history::History;
use super::optimiser::Memory;
use super::tensors::failed;
use crate::error::{Error, Result};
use crate::streaming::StreamState;

/// Weights by name.
pub(super) type Weights = BTreeMap<String, Tensor>;

/// All of it.
pub(super) struct Checkpoint {
    pub(super) state: State,
    pub(super) weights: Weights,
    pub(super) best: Option<Weights>,
    /// What the optimiser remembers.
    pub(super) slots: Vec<(String, Tensor)>,
}

/// What is not a tensor.
#[derive(Serialize, Deserialize)]
pub(super) struct State {
    pub(super) tag: String,
    /// The constraints and bounds of the layer.
    pub(super) held_to: String,
    pub(super) optimiser: Memory,
    pub(super) history: History,
    pub(super) streams: Vec<StreamState>,
}

/// The form of the file that this version writes and reads.
const VERSION: &str = "1";
const VERSION_KEY: &str = "fairlayer_checkpoint";
const STATE_KEY: &str = "state";

/// What the names of tensors begin with.
const WEIGHTS: &str = "model.";
const BEST: &str = "best.";
const SLOTS: &str = "optimiser.";

/// Where the checkpoint of a folder is.
pub(super) fn path(folder: &Path) -> PathBuf {
    folder.join("checkpoint.safetensors")
}

/// A checkpoint that cannot be used, and why.
pub(super) fn refused(path: &Path, problem: String) -> Error {
    Error::Checkpoint { path: path.to_owned(), problem }
}

fn not_done(path: &Path, what: &str) -> impl Fn(io::Error) -> Error {
    move |error| refused(path, format!("it cannot be {what}: {error}"))
}

/// Makes the folder if it is not there.
pub(super) fn make_folder(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(not_done(folder, "made"))
}

/// Writes a checkpoint in the place of the one before, when all of it is on disk: whenever the process or the machine stops, one of
/// the two is there and whole.
pub(super) fn write(path: &Path, checkpoint: &Checkpoint) -> Result<()> {
    let state = serde_json::to_string(&checkpoint.state)
        .map_err(|error| refused(path, format!("it cannot be written: {error}")))?;
    let header = [(VERSION_KEY, VERSION.to_owned()), (STATE_KEY, state)];
    let header = header.into_iter().map(|(key, text)| (key.to_owned(), text)).collect();
    let mut tensors = Vec::new();
    let parts = [(WEIGHTS, Some(&checkpoint.weights)), (BEST, checkpoint.best.as_ref())];
    for (prefix, weights) in parts.into_iter().filter_map(|(prefix, weights)| Some((prefix, weights?))) {
        for (name, tensor) in weights {
            tensors.push((format!("{prefix}{name}"), Stored::of(tensor)?));
        }
    }
    for (name, tensor) in &checkpoint.slots {
        tensors.push((format!("{SLOTS}{name}"), Stored::of(tensor)?));
    }
    let bytes = safetensors::serialize(tensors, Some(header))
        .map_err(|error| refused(path, format!("it cannot be written: {error}")))?;
    let beside = path.with_extension("new");
    let written = || -> io::Result<()> {
        let mut file = File::create(&beside)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        // (The name is on disk when its folder is. Not all systems let one open a folder.)
        path.parent().and_then(|folder| File::open(folder).ok()).map_or(Ok(()), |folder| folder.sync_all())
    };
    written().map_err(not_done(path, "written"))
}

/// Reads a checkpoint, if there is one.
pub(super) fn read(path: &Path) -> Result<Option<Checkpoint>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(not_done(path, "read")(error)),
    };
    let damaged = |what: &dyn std::fmt::Display| refused(path, format!("it is damaged, or no checkpoint: {what}"));
    let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|error| damaged(&error))?;
    let header: HashMap<String, String> = metadata.metadata().clone().unwrap_or_default();
    match header.get(VERSION_KEY).map(String::as_str) {
        Some(VERSION) => {}
        Some(other) => {
            return Err(refused(path, format!("it has version {other}, and this library reads {VERSION}")));
        }
        None => return Err(damaged(&"its header says nothing of fairlayer")),
    }
    let state = header.get(STATE_KEY).map_or("", String::as_str);
    let state = serde_json::from_str(state).map_err(|error| damaged(&error))?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|error| damaged(&error))?;
    let mut checkpoint = Checkpoint { state, weights: Weights::new(), best: None, slots: Vec::new() };
    for (name, view) in tensors.iter() {
        let tensor = tensor(&view).map_err(|problem| damaged(&problem))?;
        if let Some(name) = name.strip_prefix(WEIGHTS) {
            checkpoint.weights.insert(name.to_owned(), tensor);
        } else if let Some(name) = name.strip_prefix(BEST) {
            checkpoint.best.get_or_insert_default().insert(name.to_owned(), tensor);
        } else if let Some(name) = name.strip_prefix(SLOTS) {
            checkpoint.slots.push((name.to_owned(), tensor));
        }
    }
    checkpoint.slots.sort_by(|left, right| left.0.cmp(&right.0));
    Ok(Some(checkpoint))
}

/// Loads the weights that a training has left in its folder of checkpoints, those of its best epoch if it could stop early:
/// for a process that uses the model.
///
/// # Errors
/// No checkpoint, one that is damaged, or of another network.
pub fn load_weights(folder: &Path, variables: &nn::VarStore) -> Result<()> {
    let path = path(folder);
    let Some(Checkpoint { weights, best, .. }) = read(&path)? else {
        return Err(refused(&path, "there is none".to_owned()));
    };
    let weights = best.unwrap_or(weights);
    check(variables, &weights).map_err(|problem| refused(&path, problem))?;
    load(variables, &weights)
}

/// Whether these weights are of these variables, or what is different.
pub(super) fn check(variables: &nn::VarStore, weights: &Weights) -> std::result::Result<(), String> {
    let own = variables.variables();
    let mut names = own.keys().filter(|name| !weights.contains_key(*name)).map(|name| (name, "has no"));
    let mut others = weights.keys().filter(|name| !own.contains_key(*name)).map(|name| (name, "has a"));
    if let Some((name, has)) = names.next().or_else(|| others.next()) {
        return Err(format!("it is of another network: it {has} variable {name}"));
    }
    for (name, tensor) in &own {
        let (here, there) = (tensor.size(), weights[name].size());
        if here != there || tensor.kind() != weights[name].kind() {
            return Err(format!("it is of another network: {name} is {there:?} in it, and {here:?} here"));
        }
    }
    Ok(())
}

/// Copies these weights, which were checked, into the variables.
pub(super) fn load(variables: &nn::VarStore, weights: &Weights) -> Result<()> {
    tch::no_grad(|| {
        for (name, mut variable) in variables.variables() {
            if let Some(weight) = weights.get(&name) {
                variable.f_copy_(weight).map_err(failed)?;
            }
        }
        Ok(())
    })
}

/// A tensor as bytes.
struct Stored {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Stored {
    fn of(tensor: &Tensor) -> Result<Self> {
        let kind = tensor.kind();
        let Some((_, dtype)) = KINDS.iter().find(|(own, _)| *own == kind) else {
            return Err(Error::value("the checkpoint", format!("a variable is {kind:?}, which cannot be stored")));
        };
        let host = tensor.f_detach().and_then(|own| own.f_to_device(Device::Cpu)?.f_contiguous()).map_err(failed)?;
        let mut bytes = vec![0; host.numel() * kind.elt_size_in_bytes()];
        host.f_copy_data_u8(&mut bytes, host.numel()).map_err(failed)?;
        Ok(Self { dtype: *dtype, shape: host.size().into_iter().map(|length| length as usize).collect(), bytes })
    }
}

impl View for Stored {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

const KINDS: [(Kind, Dtype); 9] = [
    (Kind::Bool, Dtype::BOOL),
    (Kind::Uint8, Dtype::U8),
    (Kind::Int8, Dtype::I8),
    (Kind::Int, Dtype::I32),
    (Kind::Int64, Dtype::I64),
    (Kind::Half, Dtype::F16),
    (Kind::BFloat16, Dtype::BF16),
    (Kind::Float, Dtype::F32),
    (Kind::Double, Dtype::F64),
];

fn tensor(view: &TensorView<'_>) -> std::result::Result<Tensor, String> {
    let (kind, _) = KINDS.iter().find(|(_, dtype)| *dtype == view.dtype()).ok_or("a type that torch has not")?;
    let shape: Vec<i64> = view.shape().iter().map(|&length| length as i64).collect();
    Tensor::f_from_data_size(view.data(), &shape, *kind).map_err(|error| failed(error).to_string())
}
