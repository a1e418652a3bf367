//! A model small enough for closed forms, as a subject: what the unit tests of this module look at.

use crate::inference::due_weights;
use lossproof_numerics::CrossEntropy;
use lossproof_spec::{
    Counting, Dtype, Dtypes, GlobalBatch, IGNORE_INDEX, LossSpec, MicroBatch, Prediction, Rank, Sequence,
    TokenWeights,
};
use lossproof_subject::{
    Claims, Device, GradientSink, GradientView, Limits, LoadParameters, LogPolicy, ModelInfo, Observation,
    ParameterInfo, Subject, SubjectError, SubjectInfo, Tensor, TensorSet, TensorValues, TokenLosses,
    Unsupported, probe_initial,
};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

/// Tokens of the vocabulary.
pub(super) const VOCABULARY: usize = 11;
/// Positions.
const POSITIONS: usize = 8;
/// Rows of each table.
const TABLES: [(&str, usize); 3] = [("last", VOCABULARY), ("first", VOCABULARY), ("place", POSITIONS)];

/// Logits are the sum of a row for the token, one for the first token of the sequence and one for the
/// position.
#[derive(Clone)]
pub(super) struct Toy {
    pub(super) spec: LossSpec,
    pub(super) limits: Limits,
    pub(super) initial: TensorSet,
    pub(super) parameters: TensorSet,
    /// What the gradient, and the reported loss, are multiplied with.
    pub(super) factors: (f64, f64),
    /// The loss that is reported, where it is another.
    pub(super) logged: Option<LossSpec>,
    /// The log policy that is declared, and the one that is kept to.
    pub(super) policies: (LogPolicy, LogPolicy),
    /// What the gradient of one table is multiplied with.
    pub(super) broken: Option<(&'static str, f64)>,
    /// Whether it overlooks the labels it is given.
    pub(super) labels_from_inputs: bool,
}

impl Toy {
    pub(super) fn new() -> Self {
        let shapes = TABLES.map(|(name, rows)| (name.to_owned(), vec![rows, VOCABULARY]));
        let initial: TensorSet = probe_initial(&shapes, 5);
        Self {
            spec: LossSpec::token_mean(),
            limits: Limits::of_model(VOCABULARY, POSITIONS),
            parameters: initial.clone(),
            initial,
            factors: (1.0, 1.0),
            logged: None,
            policies: (LogPolicy::Window, LogPolicy::Window),
            broken: None,
            labels_from_inputs: false,
        }
    }

    pub(super) fn held(&self) -> TensorSet {
        self.initial.clone()
    }

    fn rows(sequence: &Sequence, p: &Prediction) -> [usize; 3] {
        let id = |id: u32| id as usize;
        [
            id(sequence.input_ids()[p.position]),
            id(sequence.input_ids()[0]),
            id(sequence.position_ids()[p.position]),
        ]
    }

    /// The token loss and its gradient for the logits.
    fn loss(&self, sequence: &Sequence, p: &Prediction) -> (f64, Vec<f64>) {
        let rows = Self::rows(sequence, p);
        let logit = |column: usize| {
            let terms = TABLES.iter().zip(rows);
            terms.map(|((name, _), row)| 2.0 * self.parameters[*name].get(row * VOCABULARY + column)).sum()
        };
        let logits: Vec<f64> = (0..VOCABULARY).map(logit).collect();
        let (plain, label) = (CrossEntropy { label_smoothing: 0.0, z_loss: 0.0 }, p.target as usize);
        (plain.loss(&logits, label).unwrap(), plain.gradient(&logits, label).unwrap())
    }
}

impl Subject for Toy {
    fn info(&self) -> SubjectInfo {
        SubjectInfo {
            name: "toy".to_owned(),
            version: "1".to_owned(),
            framework: "none".to_owned(),
            dtypes: Dtypes::all(Dtype::F64),
            device: Device::Cpu,
            claims: match self.spec.counting {
                Counting::Supervised => Claims::Any,
                _ => Claims::One(self.spec),
            },
            limits: self.limits,
            log_policy: self.policies.0,
            model: ModelInfo::default(),
        }
    }

    fn parameters(&self) -> Vec<ParameterInfo> {
        TABLES.map(|(name, rows)| ParameterInfo::named(name, &[rows, VOCABULARY])).into()
    }

    fn reset(&mut self) -> Result<(), SubjectError> {
        self.parameters = self.initial.clone();
        Ok(())
    }

    fn configure(&mut self, spec: &LossSpec) -> Result<(), Unsupported> {
        self.spec = *spec;
        Ok(())
    }

    fn accumulate(
        &mut self,
        batch: &GlobalBatch,
        gradients: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError> {
        self.limits.check(batch)?;
        let own = self.labels_from_inputs.then(|| batch.map_sequences(from_inputs));
        let batch = own.as_ref().unwrap_or(batch);
        let optimised = TokenWeights::new(&self.spec, &batch.layout())?.per_prediction(batch);
        let logged = due_weights(self.policies.1, batch, &self.logged.unwrap_or(self.spec))?;
        let sequences: Vec<_> = batch.sequences().collect();
        let mut sums = TABLES.map(|(_, rows)| vec![0.0; rows * VOCABULARY]);
        let mut loss = 0.0;
        for ((p, weight), logged) in
            batch.predictions().zip(optimised).zip(logged).filter(|((p, _), _)| p.supervised)
        {
            let (token_loss, slopes) = self.loss(sequences[p.sequence], &p);
            loss += self.factors.1 * logged * token_loss;
            for (sum, row) in sums.iter_mut().zip(Self::rows(sequences[p.sequence], &p)) {
                for (sum, slope) in sum[row * VOCABULARY..].iter_mut().zip(&slopes) {
                    *sum += 2.0 * self.factors.0 * weight * slope;
                }
            }
        }
        for ((name, rows), mut sum) in TABLES.into_iter().zip(sums) {
            if let Some((_, factor)) = self.broken.filter(|(broken, _)| *broken == name) {
                for value in &mut sum {
                    *value *= factor;
                }
            }
            gradients.receive(name, &[rows, VOCABULARY], GradientView::F64(&sum))?;
        }
        Ok(Observation::new(loss, None))
    }

    fn parameter_loading(&mut self) -> Option<&mut dyn LoadParameters> {
        Some(self)
    }

    fn token_losses(&mut self) -> Option<&mut dyn TokenLosses> {
        Some(self)
    }
}

impl LoadParameters for Toy {
    fn load(&mut self, parameters: &TensorSet) -> Result<(), SubjectError> {
        self.initial = parameters.clone();
        self.reset()
    }

    fn set(&mut self, name: &str, values: &[f64]) -> Result<(), SubjectError> {
        let shape = self.parameters[name].shape().to_vec();
        self.parameters
            .insert(name.to_owned(), Tensor::new(shape, TensorValues::F64(values.to_vec())).unwrap());
        Ok(())
    }
}

impl TokenLosses for Toy {
    fn evaluate(&mut self, batch: &GlobalBatch) -> Result<Vec<f64>, SubjectError> {
        let sequences: Vec<_> = batch.sequences().collect();
        Ok(batch.predictions().map(|p| self.loss(sequences[p.sequence], &p).0).collect())
    }
}

fn from_inputs(sequence: &Sequence) -> Sequence {
    let tokens = sequence.input_ids().to_vec();
    let labels = tokens.iter().map(|&token| i64::from(token)).collect();
    Sequence::new(tokens, labels).unwrap()
}

/// Sequences of these lengths in two ranks, the first of them in two micro-batches; the labels of `masked`
/// are ignored.
pub(super) fn batch(lengths: [usize; 4], masked: impl Fn(usize, usize) -> bool) -> GlobalBatch {
    let random = &mut ChaCha8Rng::seed_from_u64(9);
    let mut sequence = |index: usize| {
        let vocabulary = u32::try_from(VOCABULARY).unwrap();
        let tokens: Vec<u32> = (0..lengths[index]).map(|_| random.random_range(0..vocabulary)).collect();
        let label =
            |(p, &token): (usize, &u32)| if masked(index, p) { IGNORE_INDEX } else { i64::from(token) };
        let labels = tokens.iter().enumerate().map(label).collect();
        Sequence::new(tokens, labels).unwrap()
    };
    let mut micro_batch =
        |indices: &[usize]| MicroBatch::new(indices.iter().map(|&i| sequence(i)).collect()).unwrap();
    let (one, two, three) = (micro_batch(&[0]), micro_batch(&[1, 2]), micro_batch(&[3]));
    GlobalBatch::new(vec![Rank::new(vec![one, two]).unwrap(), Rank::new(vec![three]).unwrap()]).unwrap()
}
