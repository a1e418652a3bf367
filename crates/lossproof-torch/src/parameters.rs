//! The live parameters and the way back to the initial ones.

use crate::architecture::{Architecture, Declared, Initial};
use crate::mixture::{Held, Mixture};
use crate::{Failure, dim, kinds};
use lossproof_subject::{ParameterInfo, ParameterSource, SubjectError, TensorSet, TensorValues};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Normal};
use std::collections::{BTreeMap, btree_map::Entry};
use tch::{Device, Kind, TchError, Tensor};

/// Seed of the initial parameters: the day GPT-2 was announced.
const SEED: u64 = 20_190_214;

/// All parameters of one model, on their device and each in its element type. They never require a gradient
/// themselves: in a [`replica`](Self::replica) the trained ones do. Until the next reset every change is made in
/// place, so that replicas follow.
pub(crate) struct Parameters {
    /// The trained ones.
    infos: Vec<ParameterInfo>,
    frozen: Vec<ParameterInfo>,
    /// How each of all is held, and what it is now.
    held: Vec<Held>,
    live: Vec<Tensor>,
    /// Initial values of the parameters that were [`set`](Self::set) or updated since, by index among all.
    displaced: BTreeMap<usize, Tensor>,
    /// How the weights of linear layers are laid out, for messages.
    layout: &'static str,
}

impl Parameters {
    /// Where the architecture starts, from the fixed seed.
    pub(crate) fn initial(
        architecture: &dyn Architecture,
        mixture: &Mixture,
        (kind, device): (Kind, Device),
    ) -> Result<Self, Failure> {
        let mut random = ChaCha8Rng::seed_from_u64(SEED);
        let declared = architecture.parameters();
        let held = mixture.held(&declared, kind)?;
        let mut live = Vec::with_capacity(declared.len());
        for (one, held) in declared.iter().zip(&held) {
            let shape = shape(&one.shape);
            let count = one.shape.iter().product();
            let values: Vec<f64> = match one.initial {
                Initial::Constant(value) => {
                    live.push(Tensor::f_full(shape, value, (held.kind, device))?);
                    continue;
                }
                Initial::Normal(deviation) => {
                    let normal = Normal::new(0.0, deviation).expect("invariant: the deviation is finite");
                    normal.sample_iter(&mut random).take(count).collect()
                }
                Initial::Uniform(bound) => {
                    (0..count).map(|_| bound * (2.0 * random.random::<f64>() - 1.0)).collect()
                }
            };
            let values = Tensor::f_from_slice(&values)?.f_view(shape.as_slice())?;
            live.push(values.f_to_kind(held.kind)?.f_to_device(device)?);
        }
        Ok(Self::of(architecture, &declared, held, live))
    }

    /// Those of a source, read one tensor at a time: no copy of them is held.
    pub(crate) fn read(
        architecture: &dyn Architecture,
        mixture: &Mixture,
        (kind, device): (Kind, Device),
        source: &dyn ParameterSource,
    ) -> Result<Self, Failure> {
        let declared = architecture.parameters();
        let held = mixture.held(&declared, kind)?;
        let mut live = Vec::with_capacity(declared.len());
        for (one, held) in declared.iter().zip(&held) {
            let tensor = source.read(&one.name).map_err(SubjectError::from)?;
            if tensor.shape() != one.shape {
                let problem = format!("shape {:?}, expected {:?}", tensor.shape(), one.shape);
                return Err(refuse(&one.name, &problem));
            }
            let flat = match tensor.values() {
                TensorValues::F32(values) => Tensor::f_from_slice(values)?,
                TensorValues::F64(values) => Tensor::f_from_slice(values)?,
            };
            let shaped = flat.f_view(shape(&one.shape).as_slice())?;
            live.push(shaped.f_to_kind(held.kind)?.f_to_device(device)?);
        }
        Ok(Self::of(architecture, &declared, held, live))
    }

    fn of(
        architecture: &dyn Architecture,
        declared: &[Declared],
        held: Vec<Held>,
        live: Vec<Tensor>,
    ) -> Self {
        let (mut infos, mut frozen) = (Vec::new(), Vec::new());
        for (one, held) in declared.iter().zip(&held) {
            let info = ParameterInfo { dtype: held.dtype, ..one.info() };
            if held.trained { infos.push(info) } else { frozen.push(info) }
        }
        Self { infos, frozen, held, live, displaced: BTreeMap::new(), layout: architecture.layout() }
    }

    /// The trained parameters, in order.
    pub(crate) fn infos(&self) -> &[ParameterInfo] {
        &self.infos
    }

    /// The others.
    pub(crate) fn frozen(&self) -> &[ParameterInfo] {
        &self.frozen
    }

    /// Number of elements of all of them.
    pub(crate) fn elements(&self) -> usize {
        self.infos.iter().chain(&self.frozen).map(elements).sum()
    }

    /// The tensors of all parameters, in the architecture's order.
    pub(crate) fn tensors(&self) -> &[Tensor] {
        &self.live
    }

    /// Those of the trained ones, in order.
    pub(crate) fn trained(&self) -> impl Iterator<Item = &Tensor> {
        self.live.iter().zip(&self.held).filter(|(_, held)| held.trained).map(|(tensor, _)| tensor)
    }

    /// Index among all parameters of each trained one.
    fn places(&self) -> impl Iterator<Item = usize> {
        (0..self.held.len()).filter(|&place| self.held[place].trained)
    }

    /// Tensors of all parameters on the same memory, the trained ones being leaves of a new autograd graph. Each
    /// replica has gradients of its own, as each rank of a data-parallel run has; dropping it frees them.
    pub(crate) fn replica(&self) -> Result<Vec<Tensor>, TchError> {
        let of = |(tensor, held): (&Tensor, &Held)| tensor.f_detach()?.f_set_requires_grad(held.trained);
        self.live.iter().zip(&self.held).map(of).collect()
    }

    /// Back to the initial values.
    pub(crate) fn reset(&mut self) {
        while let Some((index, initial)) = self.displaced.pop_first() {
            self.live[index] = initial;
        }
    }

    /// Replaces the initial and the live values, all or none of them.
    pub(crate) fn load(&mut self, given: &TensorSet) -> Result<(), Failure> {
        for name in given.keys() {
            if !self.infos.iter().any(|info| info.name == *name) {
                return Err(self.unknown(name, "leave it out"));
            }
        }
        let mut ordered = Vec::with_capacity(self.infos.len());
        for (info, place) in self.infos.iter().zip(self.places()) {
            let kind = self.held[place].kind;
            let Some(tensor) = given.get(&info.name) else {
                return Err(refuse(&info.name, "is missing: every parameter of the model is needed"));
            };
            if tensor.shape() != info.shape {
                let (found, expected) = (tensor.shape(), &info.shape);
                let problem = format!("shape {found:?}, expected {expected:?} ({})", self.layout);
                return Err(refuse(&info.name, &problem));
            }
            if let Some(index) = (0..tensor.elements()).find(|&index| !holds(kind, tensor.get(index))) {
                let problem = format!(
                    "value {} at row-major index {index} is not finite in {kind:?}: check where the parameters come \
                     from",
                    tensor.get(index),
                );
                return Err(refuse(&info.name, &problem));
            }
            ordered.push((place, tensor));
        }
        for (place, tensor) in ordered {
            let live = &mut self.live[place];
            let flat = match tensor.values() {
                TensorValues::F32(values) => Tensor::f_from_slice(values)?,
                TensorValues::F64(values) => Tensor::f_from_slice(values)?,
            };
            live.f_copy_(&flat.f_view_as(live)?)?;
        }
        self.displaced.clear();
        Ok(())
    }

    /// Replaces the live values of one parameter; [`reset`](Self::reset) still knows the initial ones.
    pub(crate) fn set(&mut self, name: &str, values: &[f64]) -> Result<(), Failure> {
        let Some((info, index)) = self.infos.iter().zip(self.places()).find(|(info, _)| info.name == name)
        else {
            return Err(self.unknown(name, "take a name it lists"));
        };
        let expected = elements(info);
        if values.len() != expected {
            let problem =
                format!("{} values for shape {:?}, which takes {expected}", values.len(), info.shape);
            return Err(refuse(name, &problem));
        }
        let given = Tensor::f_from_slice(values)?;
        let live = &mut self.live[index];
        if let Entry::Vacant(initial) = self.displaced.entry(index) {
            initial.insert(live.f_detach_copy()?);
        }
        live.f_copy_(&given.f_view_as(live)?)?;
        Ok(())
    }

    /// Keeps the initial values of all trained parameters for [`reset`](Self::reset), before an optimizer
    /// updates a replica.
    pub(crate) fn keep_initial(&mut self) -> Result<(), TchError> {
        for index in self.places().collect::<Vec<_>>() {
            let live = &self.live[index];
            if let Entry::Vacant(initial) = self.displaced.entry(index) {
                initial.insert(live.f_detach_copy()?);
            }
        }
        Ok(())
    }

    /// The answer to the name of what is no trained parameter, and what to do about it.
    fn unknown(&self, name: &str, remedy: &str) -> Failure {
        if self.frozen.iter().any(|info| info.name == name) {
            refuse(name, &format!("is frozen, its values come with the model: {remedy}"))
        } else {
            refuse(name, &format!("this model has no such parameter: {remedy}"))
        }
    }
}

/// What backward passes have left at those of `leaves` that are trained, `None` where nothing reached one.
pub(crate) fn gradients(leaves: &[Tensor]) -> Result<Vec<Option<Tensor>>, TchError> {
    let gradient = |leaf: &Tensor| Ok(Some(leaf.f_grad()?).filter(Tensor::defined));
    leaves.iter().filter(|leaf| leaf.requires_grad()).map(gradient).collect()
}

/// Whether a kind has a finite value for `value`.
fn holds(kind: Kind, value: f64) -> bool {
    value.abs() <= kinds::largest(kind)
}

fn refuse(name: &str, problem: &str) -> Failure {
    SubjectError::Parameter { name: name.to_owned(), problem: problem.to_owned() }.into()
}

fn elements(info: &ParameterInfo) -> usize {
    info.shape.iter().product()
}

fn shape(sizes: &[usize]) -> Vec<i64> {
    sizes.iter().copied().map(dim).collect()
}

/// Copies the named tensors of a set into these, which are there in the order of the names or not at all.
pub(crate) fn fill(tensors: &mut [Tensor], names: &[String], from: &TensorSet) -> Result<(), TchError> {
    for (into, name) in tensors.iter_mut().zip(names) {
        let Some(tensor) = from.get(name) else { continue };
        let flat = match tensor.values() {
            TensorValues::F32(values) => Tensor::f_from_slice(values)?,
            TensorValues::F64(values) => Tensor::f_from_slice(values)?,
        };
        into.f_copy_(&flat.f_view_as(into)?)?;
    }
    Ok(())
}
