//! The trainer: forward and backward over ranks and micro-batches.

use crate::model::Model;
use crate::objective::{self, Count};
use crate::padded::Padded;
use crate::parameters::Parameters;
use crate::threads::OneThread;
use crate::{Failure, Gpt2Config, NAME};
use lossproof::{
    Device, Dtype, GradientSink, GradientView, Limits, LoadParameters, Observation, ParameterInfo, Subject,
    SubjectError, SubjectInfo, TensorSet, TokenLosses, Unsupported,
};
use lossproof_spec::{
    Combine, Counting, EmptyPolicy, GlobalBatch, Group, IGNORE_INDEX, LossSpec, MicroBatch, Rank, Scope,
    Sequence,
};
use tch::kind::Element;
use tch::{Kind, TchError, Tensor};

/// Logits evaluated at once: 128 MiB in f64, which holds 4 sequences of 64 tokens of gpt2-small.
const EVALUATED_LOGITS: usize = 1 << 24;

pub(crate) struct Torch {
    config: Gpt2Config,
    dtype: Dtype,
    device: Device,
    spec: LossSpec,
    parameters: Parameters,
}

impl Torch {
    pub(crate) fn new(config: &Gpt2Config, dtype: Dtype, device: Device) -> Result<Self, Failure> {
        config.validate()?;
        let kind = match dtype {
            Dtype::F32 => Kind::Float,
            Dtype::F64 => Kind::Double,
            Dtype::F16 | Dtype::Bf16 => {
                return Err(Failure::new(format!("{dtype} is not offered: take f32 or f64")));
            }
        };
        let place = match device {
            Device::Cpu => tch::Device::Cpu,
            Device::Cuda(index) => {
                let available = if tch::Cuda::is_available() { tch::Cuda::device_count() } else { 0 };
                if i64::try_from(index).map_or(true, |index| index >= available) {
                    return Err(Failure::new(format!(
                        "{device} was asked for, libtorch has {available} CUDA devices: \
                         take cpu, or build against a libtorch with CUDA"
                    )));
                }
                tch::Device::Cuda(index)
            }
        };
        let parameters = Parameters::initial(config, kind, place)?;
        Ok(Self { config: config.clone(), dtype, device, spec: LossSpec::token_mean(), parameters })
    }

    fn limits(&self) -> Limits {
        Limits::of_model(self.config.vocabulary, self.config.positions)
    }

    /// Forward and backward over the micro-batches of one rank.
    fn window(&self, rank: &[Padded], index: RankIndex, global: Count) -> Result<Window, Failure> {
        let leaves = self.parameters.replica()?;
        let model = Model::new(&self.config, &leaves);
        let policy = self.spec.empty;
        let own = Count::of(Group::Rank(index.rank), rank, policy);
        let averaged_over = match self.spec.micro_batches {
            Combine::Add => 1,
            Combine::Average => counted(rank.iter().map(std::slice::from_ref), policy),
        };
        let mut window = Window { loss: 0.0, token_losses: Vec::new(), gradients: Vec::new() };
        let mut first_sequence = index.first_sequence;
        for (number, batch) in rank.iter().enumerate() {
            let count = match self.spec.scope {
                Scope::MicroBatch => {
                    Count::of(Group::MicroBatch(index.first_micro_batch + number), [batch], policy)
                }
                Scope::RankWindow => own,
                Scope::Global => global,
            };
            let logits = model.logits(batch)?;
            let token_losses = {
                let _no_graph = tch::no_grad_guard();
                objective::token_losses(&self.spec, &logits, batch)?
            };
            window.token_losses.extend(scored(&token_losses, batch)?);
            if let Some(loss) = objective::loss(&self.spec, &logits, batch, &count, first_sequence)? {
                let loss = loss.f_div_scalar(crate::dim(averaged_over))?;
                loss.f_backward()?;
                window.loss += loss.f_double_value(&[])?;
            }
            first_sequence += batch.rows();
        }
        for leaf in &leaves {
            let gradient = leaf.f_grad()?;
            window.gradients.push(gradient.defined().then_some(gradient));
        }
        Ok(window)
    }

    fn step(&self, batch: &GlobalBatch) -> Result<Window, Failure> {
        let _one_thread = OneThread::for_model(self.parameters.elements());
        let supervised = |sequence: &Sequence, position: usize| sequence.labels()[position + 1];
        let pad = |micro_batch: &MicroBatch| Padded::new(micro_batch.sequences().iter(), supervised);
        let pad_rank = |rank: &Rank| rank.micro_batches().iter().map(pad).collect();
        let ranks: Vec<Vec<Padded>> = batch.ranks().iter().map(pad_rank).collect();
        let global = Count::of(Group::Batch, ranks.iter().flatten(), self.spec.empty);

        let mut index = RankIndex::default();
        let mut reduced: Option<Window> = None;
        for rank in &ranks {
            let window = self.window(rank, index, global)?;
            match &mut reduced {
                None => reduced = Some(window),
                Some(reduced) => reduced.add(window)?,
            }
            index.rank += 1;
            index.first_micro_batch += rank.len();
            index.first_sequence += rank.iter().map(Padded::rows).sum::<usize>();
        }
        let mut reduced = reduced.expect("invariant: a global batch has a rank");
        if self.spec.ranks == Combine::Average {
            reduced.divide(counted(ranks.iter().map(Vec::as_slice), self.spec.empty))?;
        }
        Ok(reduced)
    }

    /// Hands every gradient over, freeing each as soon as it is gone.
    fn hand_over(&self, gradients: Vec<Option<Tensor>>, sink: &mut dyn GradientSink) -> Result<(), Failure> {
        for (info, gradient) in self.parameters.infos().iter().zip(gradients) {
            let elements = info.shape.iter().product();
            if self.dtype == Dtype::F64 {
                let values = on_host(gradient, 0.0, elements)?;
                sink.receive(&info.name, &info.shape, GradientView::F64(&values))?;
            } else {
                let values = on_host(gradient, 0.0, elements)?;
                sink.receive(&info.name, &info.shape, GradientView::F32(&values))?;
            }
        }
        Ok(())
    }

    fn plain_token_losses(&self, batch: &GlobalBatch) -> Result<Vec<f64>, Failure> {
        let _no_graph = tch::no_grad_guard();
        let _one_thread = OneThread::for_model(self.parameters.elements());
        let model = Model::new(&self.config, self.parameters.tensors());
        let plain = LossSpec::sum();
        let sequences: Vec<&Sequence> = batch.sequences().collect();
        let target = |sequence: &Sequence, position: usize| i64::from(sequence.targets()[position + 1]);
        let mut losses = Vec::new();
        let mut rest = sequences.as_slice();
        while !rest.is_empty() {
            let (rows, others) = rest.split_at(self.rows_at_once(rest));
            let padded = Padded::new(rows.iter().copied(), target);
            let all = objective::token_losses(&plain, &model.logits(&padded)?, &padded)?;
            losses.extend(scored(&all, &padded)?);
            rest = others;
        }
        Ok(losses)
    }

    /// How many of the next sequences are evaluated together: at least one, and no more logits than the cap.
    fn rows_at_once(&self, sequences: &[&Sequence]) -> usize {
        let mut width = 0;
        let fitting = sequences.iter().zip(1..).take_while(|&(sequence, rows)| {
            width = sequence.len().max(width);
            rows == 1 || rows * width * self.config.vocabulary <= EVALUATED_LOGITS
        });
        fitting.count()
    }
}

/// Where a rank stands in the global batch.
#[derive(Clone, Copy, Default)]
struct RankIndex {
    rank: usize,
    first_micro_batch: usize,
    first_sequence: usize,
}

/// What one rank has after its last micro-batch, or all of them after the all-reduce.
struct Window {
    loss: f64,
    token_losses: Vec<f64>,
    /// In the order of the parameters; `None` where no loss reached one.
    gradients: Vec<Option<Tensor>>,
}

impl Window {
    /// The all-reduce with another rank; its tokens come after those already here.
    fn add(&mut self, other: Self) -> Result<(), TchError> {
        self.loss += other.loss;
        self.token_losses.extend(other.token_losses);
        for (mine, theirs) in self.gradients.iter_mut().zip(other.gradients) {
            match (mine, theirs) {
                (Some(mine), Some(theirs)) => drop(mine.f_add_(&theirs)?),
                (mine, theirs @ Some(_)) => *mine = theirs,
                (_, None) => {}
            }
        }
        Ok(())
    }

    fn divide(&mut self, ranks: usize) -> Result<(), TchError> {
        if ranks > 1 {
            self.loss /= ranks as f64;
            for gradient in self.gradients.iter_mut().flatten() {
                let _ = gradient.f_div_scalar_(crate::dim(ranks))?;
            }
        }
        Ok(())
    }
}

/// How many groups of micro-batches an average is taken over.
fn counted<'a>(groups: impl Iterator<Item = &'a [Padded]>, policy: EmptyPolicy) -> usize {
    let has_token = |group: &&[Padded]| group.iter().flat_map(Padded::scored).any(|scored| scored > 0);
    // Where all are empty every contribution is zero, whatever it is divided by.
    if policy == EmptyPolicy::ZeroSkipped { groups.filter(has_token).count().max(1) } else { groups.count() }
}

/// The values of a gradient, all `zero` where there is none; its own memory is freed.
fn on_host<T: Element + Clone>(
    gradient: Option<Tensor>,
    zero: T,
    elements: usize,
) -> Result<Vec<T>, TchError> {
    let mut values = vec![zero; elements];
    if let Some(gradient) = gradient {
        gradient.f_copy_data(&mut values, elements)?;
    }
    Ok(values)
}

/// The losses of the scored predictions, of all rows in order.
fn scored(losses: &Tensor, batch: &Padded) -> Result<Vec<f64>, TchError> {
    let labels = batch.labels();
    let mut values = vec![0.0_f64; labels.len()];
    losses.f_to_kind(Kind::Double)?.f_copy_data(&mut values, labels.len())?;
    let scored = values.into_iter().zip(labels).filter(|&(_, &label)| label != IGNORE_INDEX);
    Ok(scored.map(|(loss, _)| loss).collect())
}

impl Subject for Torch {
    fn info(&self) -> SubjectInfo {
        SubjectInfo {
            name: NAME.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            framework: "libtorch 2.11.0 (tch 0.24.0)".to_owned(),
            dtype: self.dtype,
            device: self.device,
            spec: self.spec,
            limits: self.limits(),
        }
    }

    fn parameters(&self) -> Vec<ParameterInfo> {
        self.parameters.infos().to_vec()
    }

    fn reset(&mut self) -> Result<(), SubjectError> {
        self.parameters.reset();
        Ok(())
    }

    fn configure(&mut self, spec: &LossSpec) -> Result<(), Unsupported> {
        let unsupported = |what| Unsupported { subject: NAME.to_owned(), what };
        spec.validate().map_err(|invalid| unsupported(format!("this loss spec: {invalid}")))?;
        if spec.counting != Counting::Supervised {
            return Err(unsupported("counting tokens that are not supervised".to_owned()));
        }
        self.spec = *spec;
        Ok(())
    }

    fn accumulate(
        &mut self,
        batch: &GlobalBatch,
        gradients: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError> {
        self.limits().check(batch)?;
        let step = self.step(batch)?;
        self.hand_over(step.gradients, gradients)?;
        Ok(Observation {
            loss: step.loss,
            supervised_tokens: Some(step.token_losses.len()),
            token_losses: Some(step.token_losses),
        })
    }

    fn parameter_loading(&mut self) -> Option<&mut dyn LoadParameters> {
        Some(self)
    }

    fn token_losses(&mut self) -> Option<&mut dyn TokenLosses> {
        Some(self)
    }
}

impl LoadParameters for Torch {
    fn load(&mut self, parameters: &TensorSet) -> Result<(), SubjectError> {
        Ok(self.parameters.load(parameters)?)
    }

    fn set(&mut self, name: &str, values: &[f64]) -> Result<(), SubjectError> {
        Ok(self.parameters.set(name, values)?)
    }
}

impl TokenLosses for Torch {
    fn evaluate(&mut self, batch: &GlobalBatch) -> Result<Vec<f64>, SubjectError> {
        self.limits().check(batch)?;
        Ok(self.plain_token_losses(batch)?)
    }
}
