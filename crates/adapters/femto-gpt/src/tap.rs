//! The graph femto-gpt is given: its own, with three calls diverted and one watched.

use femto_gpt::{
    funcs::Function,
    graph::{CpuGraph, Graph, GraphError, TensorId},
    optimizer::{Optimizer, OptimizerState},
    tensor::{GeneralTensor, Tensor, TensorOps},
};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Input tokens, and the token to predict at each.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) inputs: Vec<usize>,
    pub(crate) targets: Vec<usize>,
}

/// What was seen of one sample.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Place of the sample in the step.
    pub(crate) sample: usize,
    /// What the backward pass returned.
    pub(crate) loss: f32,
    pub(crate) token_losses: Vec<f32>,
}

/// What goes in and out of a step.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    /// Samples that no clone of the graph has taken yet, by their place in the step.
    pub(crate) samples: VecDeque<(usize, Sample)>,
    pub(crate) seen: Vec<Seen>,
    /// By femto-gpt's names: what the optimizer was called with.
    pub(crate) gradient: Vec<(String, Tensor<f32>)>,
}

/// A [`CpuGraph`] with a wire attached. The training loop clones it once per sample.
pub(crate) struct Tap {
    graph: CpuGraph,
    wire: Arc<Mutex<Wire>>,
    sample: Option<(usize, Sample)>,
}

impl Tap {
    pub(crate) fn new(wire: Arc<Mutex<Wire>>) -> Self {
        Self { graph: CpuGraph::new(), wire, sample: None }
    }
}

/// What is on the wire. A panic elsewhere leaves nothing half-written there.
pub(crate) fn open(wire: &Mutex<Wire>) -> MutexGuard<'_, Wire> {
    wire.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Clone for Tap {
    fn clone(&self) -> Self {
        let sample = open(&self.wire).samples.pop_front();
        Self { graph: self.graph.clone(), wire: Arc::clone(&self.wire), sample }
    }
}

impl Graph for Tap {
    /// The sample of this clone, whatever the loop has drawn.
    fn load_usize<T: TensorOps<usize>>(&mut self, id: TensorId, drawn: &T) -> Result<(), GraphError> {
        let Some((_, sample)) = &self.sample else { return self.graph.load_usize(id, drawn) };
        let tokens = if self.graph.name_of(id)? == "token_input" { &sample.inputs } else { &sample.targets };
        self.graph.load_usize(id, &Tensor::raw(drawn.shape(), tokens.clone())?)
    }

    /// Without dropout.
    fn forward(&mut self, _training: bool) -> Result<(), GraphError> {
        self.graph.forward(false)
    }

    /// Records the losses that are differentiated.
    fn backward_all(&mut self, id: TensorId, limit: Option<usize>) -> Result<f32, GraphError> {
        let loss = self.graph.backward_all(id, limit)?;
        if let Some((sample, _)) = self.sample {
            let token_losses = self.graph.get(id)?.as_float()?.blob().to_vec();
            open(&self.wire).seen.push(Seen { sample, loss, token_losses });
        }
        Ok(loss)
    }

    /// Takes no step, and keeps what it would have been taken with.
    fn optimize<O: Optimizer>(&mut self, _: &O, _: f32) -> Result<(), GraphError> {
        let gradient = self.graph.params().iter().map(|&id| -> Result<_, GraphError> {
            Ok((self.graph.name_of(id)?.clone(), self.graph.get_grad(id)?.clone()))
        });
        open(&self.wire).gradient = gradient.collect::<Result<_, _>>()?;
        Ok(())
    }

    fn alloc(&mut self, t: Tensor<f32>, is_param: bool, name: String) -> Result<TensorId, GraphError> {
        self.graph.alloc(t, is_param, name)
    }

    fn alloc_usize(&mut self, t: Tensor<usize>, name: String) -> Result<TensorId, GraphError> {
        self.graph.alloc_usize(t, name)
    }

    fn params(&self) -> &[TensorId] {
        self.graph.params()
    }

    fn load<T: TensorOps<f32>>(&mut self, id: TensorId, tensor: &T) -> Result<(), GraphError> {
        self.graph.load(id, tensor)
    }

    fn load_grad<T: TensorOps<f32>>(&mut self, id: TensorId, tensor: &T) -> Result<(), GraphError> {
        self.graph.load_grad(id, tensor)
    }

    fn zero_grad(&mut self) -> Result<(), GraphError> {
        self.graph.zero_grad()
    }

    fn name_of(&self, id: TensorId) -> Result<&String, GraphError> {
        self.graph.name_of(id)
    }

    fn fetch(&mut self, id: TensorId, grad: bool) -> Result<(), GraphError> {
        self.graph.fetch(id, grad)
    }

    fn get(&self, id: TensorId) -> Result<&GeneralTensor, GraphError> {
        self.graph.get(id)
    }

    fn get_grad(&self, id: TensorId) -> Result<&Tensor<f32>, GraphError> {
        self.graph.get_grad(id)
    }

    fn call(&mut self, f: Box<dyn Function>, inputs: &[TensorId]) -> Result<TensorId, GraphError> {
        self.graph.call(f, inputs)
    }

    fn optimizer_step(&self) -> usize {
        self.graph.optimizer_step()
    }

    fn get_optimizer_state(&self) -> Result<OptimizerState, GraphError> {
        self.graph.get_optimizer_state()
    }

    fn set_optimizer_state(&mut self, state: &OptimizerState) -> Result<(), GraphError> {
        self.graph.set_optimizer_state(state)
    }
}
