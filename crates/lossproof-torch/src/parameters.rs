//! The live parameters and the way back to the initial ones.

use crate::architecture::{Architecture, Declared, Initial};
use crate::{Failure, dim};
use lossproof_subject::{ParameterInfo, ParameterSource, SubjectError, TensorSet, TensorValues};
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use rand_distr::{Distribution, Normal};
use std::collections::{BTreeMap, btree_map::Entry};
use tch::{Device, Kind, TchError, Tensor};

/// Seed of the initial parameters: the day GPT-2 was announced.
const SEED: u64 = 20_190_214;

/// All parameters of one model, on their device and in their dtype. They never require a gradient themselves: a
/// [`replica`](Self::replica) does. Until the next reset every change is made in place, so that replicas follow.
pub(crate) struct Parameters {
    infos: Vec<ParameterInfo>,
    live: Vec<Tensor>,
    /// Initial values of the parameters that were [`set`](Self::set) or updated since, by index.
    displaced: BTreeMap<usize, Tensor>,
    kind: Kind,
    /// How the weights of linear layers are laid out, for messages.
    layout: &'static str,
}

impl Parameters {
    /// Where the architecture starts, from the fixed seed.
    pub(crate) fn initial(
        architecture: &dyn Architecture,
        kind: Kind,
        device: Device,
    ) -> Result<Self, TchError> {
        let mut random = ChaCha8Rng::seed_from_u64(SEED);
        let (mut infos, mut live) = (Vec::new(), Vec::new());
        for declared in architecture.parameters() {
            let info = declared.info();
            let shape = shape(&info);
            live.push(match declared.initial {
                Initial::Constant(value) => Tensor::f_full(shape, value, (kind, device))?,
                Initial::Normal(deviation) => {
                    let normal = Normal::new(0.0, deviation).expect("invariant: the deviation is finite");
                    let values: Vec<f64> = normal.sample_iter(&mut random).take(elements(&info)).collect();
                    Tensor::f_from_slice(&values)?
                        .f_view(shape.as_slice())?
                        .f_to_kind(kind)?
                        .f_to_device(device)?
                }
            });
            infos.push(info);
        }
        Ok(Self { infos, live, displaced: BTreeMap::new(), kind, layout: architecture.layout() })
    }

    /// Those of a source, read one tensor at a time: no copy of them is held.
    pub(crate) fn read(
        architecture: &dyn Architecture,
        kind: Kind,
        device: Device,
        source: &dyn ParameterSource,
    ) -> Result<Self, Failure> {
        let infos: Vec<_> = architecture.parameters().iter().map(Declared::info).collect();
        let mut live = Vec::with_capacity(infos.len());
        for info in &infos {
            let tensor = source.read(&info.name).map_err(SubjectError::from)?;
            if tensor.shape() != info.shape {
                let problem = format!("shape {:?}, expected {:?}", tensor.shape(), info.shape);
                return Err(refuse(&info.name, &problem));
            }
            let flat = match tensor.values() {
                TensorValues::F32(values) => Tensor::f_from_slice(values)?,
                TensorValues::F64(values) => Tensor::f_from_slice(values)?,
            };
            live.push(flat.f_view(shape(info).as_slice())?.f_to_kind(kind)?.f_to_device(device)?);
        }
        Ok(Self { infos, live, displaced: BTreeMap::new(), kind, layout: architecture.layout() })
    }

    /// Names and shapes, in order.
    pub(crate) fn infos(&self) -> &[ParameterInfo] {
        &self.infos
    }

    /// Number of elements of all of them.
    pub(crate) fn elements(&self) -> usize {
        self.infos.iter().map(elements).sum()
    }

    /// The tensors, in the same order.
    pub(crate) fn tensors(&self) -> &[Tensor] {
        &self.live
    }

    /// Leaves of a new autograd graph on the same memory. Each replica has gradients of its own, as each rank of a
    /// data-parallel run has; dropping it frees them.
    pub(crate) fn replica(&self) -> Result<Vec<Tensor>, TchError> {
        self.live.iter().map(|tensor| tensor.f_detach()?.f_set_requires_grad(true)).collect()
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
                return Err(refuse(name, "this model has no such parameter: leave it out"));
            }
        }
        let mut ordered = Vec::with_capacity(self.infos.len());
        for info in &self.infos {
            let Some(tensor) = given.get(&info.name) else {
                return Err(refuse(&info.name, "is missing: every parameter of the model is needed"));
            };
            if tensor.shape() != info.shape {
                let (found, expected) = (tensor.shape(), &info.shape);
                let problem = format!("shape {found:?}, expected {expected:?} ({})", self.layout);
                return Err(refuse(&info.name, &problem));
            }
            if let Some(index) = (0..tensor.elements()).find(|&index| !self.holds(tensor.get(index))) {
                let problem = format!(
                    "value {} at row-major index {index} is not finite in {:?}: check where the parameters come from",
                    tensor.get(index),
                    self.kind
                );
                return Err(refuse(&info.name, &problem));
            }
            ordered.push(tensor);
        }
        for (live, tensor) in self.live.iter_mut().zip(ordered) {
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
        let Some(index) = self.infos.iter().position(|info| info.name == name) else {
            return Err(refuse(name, "this model has no such parameter: take a name it lists"));
        };
        let expected = elements(&self.infos[index]);
        if values.len() != expected {
            let problem = format!(
                "{} values for shape {:?}, which takes {expected}",
                values.len(),
                self.infos[index].shape
            );
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

    /// Keeps the initial values of all parameters for [`reset`](Self::reset), before an optimizer updates a replica.
    pub(crate) fn keep_initial(&mut self) -> Result<(), TchError> {
        for (index, live) in self.live.iter().enumerate() {
            if let Entry::Vacant(initial) = self.displaced.entry(index) {
                initial.insert(live.f_detach_copy()?);
            }
        }
        Ok(())
    }

    /// Whether the dtype has a finite value for `value`.
    fn holds(&self, value: f64) -> bool {
        let largest = if self.kind == Kind::Float { f64::from(f32::MAX) } else { f64::MAX };
        value.abs() <= largest
    }
}

fn refuse(name: &str, problem: &str) -> Failure {
    SubjectError::Parameter { name: name.to_owned(), problem: problem.to_owned() }.into()
}

fn elements(info: &ParameterInfo) -> usize {
    info.shape.iter().product()
}

fn shape(info: &ParameterInfo) -> Vec<i64> {
    info.shape.iter().copied().map(dim).collect()
}
