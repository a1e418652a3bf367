//! What the trainer asks of an architecture: the one seam between the models and everything that trains them.

use crate::padded::Padded;
use lossproof_subject::{ModelInfo, ParameterInfo};
use tch::{TchError, Tensor};

/// As many as f64 values can be addressed.
const MOST_ELEMENTS: usize = isize::MAX as usize / size_of::<f64>();

/// The shape of a model, which says what its parameters are and how to compute with them.
pub(crate) trait Architecture {
    /// What messages call it.
    fn name(&self) -> &str;
    /// Number of tokens, `V`.
    fn vocabulary(&self) -> usize;
    /// Position ids are below this.
    fn positions(&self) -> usize;
    /// How the weights of its linear layers are laid out, for messages about their shapes.
    fn layout(&self) -> &'static str;
    /// Why there is no such model and what to change, or `None` where there is one.
    fn problem(&self) -> Option<String>;
    /// Its parameters; only where there is such a model.
    fn parameters(&self) -> Vec<Declared>;
    /// Whether it has dropout.
    fn has_dropout(&self) -> bool {
        false
    }
    /// What its logits depend on beside parameters.
    fn facts(&self) -> ModelInfo {
        ModelInfo::default()
    }
    /// The model over `tensors`, one for each of [`parameters`](Self::parameters) and in their order. They
    /// are shared, not copied.
    fn model(&self, tensors: &[Tensor]) -> Box<dyn Model>;
}

/// A model as a function of the parameters it was made over: an embedding, blocks that each turn one tensor into the
/// next, and a head. `n` rows have `l` positions.
pub(crate) trait Model {
    /// Number of blocks.
    fn blocks(&self) -> usize;
    /// What every block needs to know of a batch, and no parameter is in.
    fn context(&self, batch: &Padded) -> Result<Context, TchError>;
    /// What goes into the first block, `[n·l, C]`.
    fn embedded(&self, batch: &Padded) -> Result<Tensor, TchError>;
    /// What a block, by its number, makes of `x` `[n·l, C]`. It attends to no key that `batch` hides.
    fn block(&self, number: usize, x: &Tensor, batch: &Padded, context: &Context)
    -> Result<Tensor, TchError>;
    /// Logits of what comes out of the last block, `[n·(l − 1), V]`: the last position predicts nothing.
    fn head(&self, x: &Tensor, batch: &Padded) -> Result<Tensor, TchError>;

    /// Logits of every prediction, `[n·(l − 1), V]`.
    fn logits(&self, batch: &Padded) -> Result<Tensor, TchError> {
        let context = self.context(batch)?;
        let mut x = self.embedded(batch)?;
        for number in 0..self.blocks() {
            x = self.block(number, &x, batch, &context)?;
        }
        self.head(&x, batch)
    }
}

/// What the blocks of a model need to know of a batch.
pub(crate) struct Context {
    /// Which keys a query does not see, `[n, 1, l, l]`.
    pub(crate) hidden_keys: Tensor,
    /// Cosines and sines of the angles by which positions turn features, where they do.
    pub(crate) turns: Option<[Tensor; 2]>,
}

/// A parameter as its architecture declares it.
pub(crate) struct Declared {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    /// The name of another use of the same tensor.
    pub(crate) tied_to: Option<String>,
    pub(crate) initial: Initial,
    /// Whether it is trained where nobody says otherwise.
    pub(crate) trained: bool,
}

/// Where an element of a parameter starts.
#[derive(Clone, Copy)]
pub(crate) enum Initial {
    Constant(f64),
    /// Normal around zero with this standard deviation.
    Normal(f64),
    /// Uniform between minus this and this.
    Uniform(f64),
}

impl Declared {
    pub(crate) fn new(name: impl Into<String>, shape: impl Into<Vec<usize>>, initial: Initial) -> Self {
        Self { name: name.into(), shape: shape.into(), tied_to: None, initial, trained: true }
    }

    /// What the trainer lists.
    pub(crate) fn info(&self) -> ParameterInfo {
        ParameterInfo { tied_to: self.tied_to.clone(), ..ParameterInfo::named(&self.name, &self.shape) }
    }
}

/// Tensors taken one after the other, in the order of the parameters.
pub(crate) struct InOrder<'a>(std::slice::Iter<'a, Tensor>);

impl<'a> InOrder<'a> {
    pub(crate) fn of(tensors: &'a [Tensor]) -> Self {
        Self(tensors.iter())
    }

    /// The next one, sharing its memory.
    pub(crate) fn take(&mut self) -> Tensor {
        self.0.next().expect("invariant: one tensor for each parameter").shallow_clone()
    }
}

/// The problem of a model with so many parameters, `None` of them where the number overflows.
pub(crate) fn too_large(elements: Option<usize>) -> Option<String> {
    let fits = elements.is_some_and(|elements| elements <= MOST_ELEMENTS);
    (!fits).then(|| "more parameters than memory can address: take smaller sizes".to_owned())
}
