//! Why nobody saw it: each fault beside what its authors tested with, where it makes no difference, and
//! beside something ragged, where it does.

use lossproof_faults::Fault;
use lossproof_gpt2::Config;
use lossproof_numerics::difference;
use lossproof_spec::{
    Adam, Clip, Decayed, Dtype, GlobalBatch, IGNORE_INDEX, LossSpec, MicroBatch, Optimizer, Rank, Rule,
    Sequence, SequenceFields,
};
use lossproof_subject::{Collect, Subject, Tensor, TensorSet, TensorValues};
use lossproof_tests::ours;

/// What two ways of computing the same in f64 may differ by here, 900 units of round-off: sums of a few
/// hundred terms whose roundings add as they please. What the tests show differs by ten million times as much.
const ROUNDING: f64 = 1e-13;
/// What nobody takes for rounding.
const VISIBLE: f64 = 1e-6;

/// What is looked at.
#[derive(Clone, Copy)]
enum Seen {
    /// The reported loss alone.
    Loss,
    /// Shape and norm of every parameter's gradient.
    Norms,
    /// Loss and gradient.
    Gradient,
    /// Loss and gradient under these upstream weights, by the index of the prediction.
    Upstream(fn(usize) -> f64),
    /// Where the parameters go.
    Steps(Optimizer),
    /// What a validation on the micro-batches prints.
    Validation,
}

/// A test that somebody wrote.
#[derive(Clone)]
struct Test {
    spec: LossSpec,
    /// One after the other. Gradients are looked at with the last.
    batches: Vec<GlobalBatch>,
    seen: Seen,
    parameters: fn(&mut TensorSet),
}

impl Test {
    fn of(batch: GlobalBatch) -> Self {
        Self { spec: LossSpec::token_mean(), batches: vec![batch], seen: Seen::Gradient, parameters: |_| () }
    }

    fn spec(self, spec: LossSpec) -> Self {
        Self { spec, ..self }
    }

    fn seen(self, seen: Seen) -> Self {
        Self { seen, ..self }
    }

    fn parameters(self, parameters: fn(&mut TensorSet)) -> Self {
        Self { parameters, ..self }
    }

    fn then(mut self, batch: GlobalBatch) -> Self {
        self.batches.push(batch);
        self
    }

    /// The numbers that are looked at.
    fn look(&self, subject: &mut dyn Subject) -> Vec<f64> {
        let mut parameters = read(subject);
        (self.parameters)(&mut parameters);
        subject.parameter_loading().expect("it loads parameters").load(&parameters).expect("parameters");
        subject.configure(&self.spec).expect("a spec it supports");
        if let Seen::Steps(optimizer) = self.seen {
            let before = flat(&read(subject));
            let steps = subject.optimizer_steps().expect("it takes steps");
            steps.start(&optimizer).expect("an optimizer it has");
            for batch in &self.batches {
                steps.step(batch).expect("a step");
            }
            return flat(&read(subject)).iter().zip(before).map(|(after, before)| after - before).collect();
        }
        if let Seen::Validation = self.seen {
            let corpus: Vec<MicroBatch> =
                self.batches.iter().flat_map(GlobalBatch::micro_batches).cloned().collect();
            let evaluation = subject.evaluation().expect("it validates");
            let printed = evaluation.validate(&corpus).expect("batches inside its limits");
            return vec![printed.loss, printed.perplexity];
        }
        let (mut loss, mut gradient) = (f64::NAN, TensorSet::new());
        for batch in &self.batches {
            let mut sink = Collect::default();
            loss = if let Seen::Upstream(weight) = self.seen {
                let weights: Vec<f64> = (0..batch.predictions().count()).map(weight).collect();
                let upstream = subject.upstream_weights().expect("it weights token losses");
                upstream.backward(batch, &weights, &mut sink).expect("a batch inside its limits")
            } else {
                subject.accumulate(batch, &mut sink).expect("a batch inside its limits").loss
            };
            gradient = sink.into_tensors();
        }
        match self.seen {
            Seen::Loss => vec![loss],
            Seen::Norms => {
                gradient.values().map(|t| t.to_f64().iter().map(|g| g * g).sum::<f64>().sqrt()).collect()
            }
            _ => [loss].into_iter().chain(flat(&gradient)).collect(),
        }
    }

    /// How far a fault is from the honest trainer in this test.
    fn apart(&self, fault: &Fault) -> f64 {
        let honest = self.look(&mut *ours(Config::Pico, Dtype::F64));
        let faulty = self.look(&mut *fault.inject(ours(Config::Pico, Dtype::F64)));
        assert_eq!(honest.len(), faulty.len());
        let difference = difference(|i| faulty[i], |i| honest[i], 0..honest.len());
        assert!(difference.expected > 0.0, "there is nothing to see");
        difference.relative_to(difference.expected)
    }
}

fn read(subject: &mut dyn Subject) -> TensorSet {
    let mut sink = Collect::default();
    subject.optimizer_steps().expect("it hands parameters over").read(&mut sink).expect("parameters");
    sink.into_tensors()
}

fn flat(tensors: &TensorSet) -> Vec<f64> {
    tensors.values().flat_map(Tensor::to_f64).collect()
}

/// Sequences of these lengths, by rank and micro-batch, every label given. No token occurs twice among the first 64.
fn batch(lengths: &[&[&[usize]]]) -> GlobalBatch {
    let mut next = 11;
    let mut sequence = |&length: &usize| {
        let mut token = || {
            next = (next + 37) % 64;
            next
        };
        let ids: Vec<u32> = (0..length).map(|_| token()).collect();
        let labels = ids.iter().map(|&id| i64::from(id)).collect();
        Sequence::new(ids, labels).expect("a sequence")
    };
    let mut micro_batch =
        |lengths: &&[usize]| MicroBatch::new(lengths.iter().map(&mut sequence).collect()).expect("sequences");
    let mut rank =
        |rank: &&[&[usize]]| Rank::new(rank.iter().map(&mut micro_batch).collect()).expect("micro-batches");
    GlobalBatch::new(lengths.iter().map(&mut rank).collect()).expect("ranks")
}

/// Two micro-batches of equal lengths.
fn equal() -> GlobalBatch {
    batch(&[&[&[5, 5], &[5, 5]]])
}

/// Two micro-batches of which nothing is equal.
fn ragged() -> GlobalBatch {
    batch(&[&[&[3, 9], &[7]]])
}

/// One micro-batch.
fn one() -> GlobalBatch {
    batch(&[&[&[5, 5]]])
}

/// The first `prompt` tokens of every sequence masked.
fn prompted(batch: &GlobalBatch, prompt: usize) -> GlobalBatch {
    batch.map_sequences(|sequence| edited(sequence, |fields| fields.labels[..prompt].fill(IGNORE_INDEX)))
}

fn edited(sequence: &Sequence, edit: impl FnOnce(&mut SequenceFields)) -> Sequence {
    let mut fields = SequenceFields::from(sequence.clone());
    edit(&mut fields);
    Sequence::from_fields(fields).expect("a sequence")
}

/// Every sequence with two more positions of padding, filled with `token`.
fn padded(batch: &GlobalBatch, token: Option<u32>) -> GlobalBatch {
    batch.map_sequences(|sequence| {
        let filler = token.unwrap_or_else(|| sequence.input_ids()[sequence.len() - 1]);
        edited(sequence, |fields| {
            for _ in 0..2 {
                fields.input_ids.push(filler);
                fields.targets.push(filler);
                fields.labels.push(IGNORE_INDEX);
                fields.segment_ids.push(0);
                fields.position_ids.push(0);
            }
        })
    })
}

/// Every sequence as two documents, cut after two positions.
fn packed(batch: &GlobalBatch) -> GlobalBatch {
    batch.map_sequences(|sequence| {
        edited(sequence, |fields| {
            for position in 2..fields.input_ids.len() {
                fields.segment_ids[position] = 2;
                fields.position_ids[position] -= 2;
            }
            fields.labels[2] = IGNORE_INDEX;
        })
    })
}

/// Five tokens, again and again.
fn repeated(batch: &GlobalBatch) -> GlobalBatch {
    batch.map_sequences(|sequence| {
        edited(sequence, |fields| {
            let tokens = fields.input_ids.iter_mut().chain(&mut fields.targets);
            tokens.for_each(|token| *token %= 5);
            fields.labels.iter_mut().for_each(|label| *label %= 5);
        })
    })
}

/// The last micro-batch without a label.
fn with_an_empty_micro_batch() -> GlobalBatch {
    let mut index = 0;
    ragged().map_sequences(|sequence| {
        index += 1;
        sequence.supervise_only(|_| index < 3)
    })
}

fn set(parameters: &mut TensorSet, name: &str, value: impl Fn(usize) -> f64) {
    let shape = parameters[name].shape().to_vec();
    let values = (0..parameters[name].elements()).map(value).collect();
    let tensor = Tensor::new(shape, TensorValues::F64(values)).expect("as many values as before");
    parameters.insert(name.to_owned(), tensor);
}

/// The input of every layer norm has variance one, ε included: nothing but the token's embedding reaches it.
fn unit_variance(parameters: &mut TensorSet) {
    let deviation = (1.0 - 1e-5_f64).sqrt();
    set(parameters, "wte.weight", |i| if (i % 8 + i / 8) % 8 < 4 { deviation } else { -deviation });
    for name in ["wpe.weight", "h.0.attn.c_proj.weight", "h.0.attn.c_proj.bias", "h.0.mlp.c_proj.weight"] {
        set(parameters, name, |_| 0.0);
    }
    set(parameters, "h.0.mlp.c_proj.bias", |_| 0.0);
}

/// All logits are 2⁴⁰.
fn large_offset(parameters: &mut TensorSet) {
    set(parameters, "ln_f.weight", |_| 0.0);
    set(parameters, "ln_f.bias", |i| if i == 0 { 2.0_f64.powi(40) } else { 0.0 });
    set(parameters, "wte.weight", |i| if i % 8 == 0 { 1.0 } else { 0.0 });
}

fn sgd() -> Optimizer {
    Optimizer::sgd(0.125)
}

fn adam() -> Optimizer {
    let adam = Adam {
        beta_1: 0.9,
        beta_2: 0.95,
        // As good as none, and 0/ε is a number.
        epsilon: 1e-300,
        epsilon_placement: lossproof_spec::EpsilonPlacement::AfterCorrection,
        weight_decay: 0.0,
        decayed: Decayed::All,
    };
    Optimizer { rule: Rule::Adam(adam), ..sgd() }
}

/// Clipped at this norm.
fn clipped(max_norm: f64) -> Optimizer {
    Optimizer { clip: Some(Clip { max_norm, epsilon: 0.0 }), ..sgd() }
}

fn smoothed() -> LossSpec {
    LossSpec { label_smoothing: 0.1, ..LossSpec::token_mean() }
}

/// A fault, why it hid, a test that it passed, and one that it does not.
struct Hidden(&'static str, &'static str, Test, Test);

/// Where the weights of tokens, their alignment or their masks are wrong.
fn in_the_loss() -> Vec<Hidden> {
    let (token, naive) = (LossSpec::token_mean(), LossSpec::naive_accumulated_mean());
    let of = |batch: GlobalBatch| Test::of(batch);
    vec![
        Hidden("ga-mean-of-means", "equal lengths", of(equal()), of(ragged())),
        Hidden("ga-scale-by-sample-ratio", "equal lengths", of(equal()), of(ragged())),
        Hidden("log-loss-misscaled-under-ga", "equal lengths", of(equal()), of(ragged())),
        Hidden(
            "rank-local-token-mean",
            "equal lengths",
            of(batch(&[&[&[5]], &[&[5]]])),
            of(batch(&[&[&[3]], &[&[9]]])),
        ),
        Hidden(
            "reduction-mode-ignored",
            "equal lengths",
            of(equal()).spec(LossSpec::sequence_mean()),
            of(ragged()).spec(LossSpec::sequence_mean()),
        ),
        Hidden("dp-average-not-undone", "one rank", of(ragged()), of(batch(&[&[&[5]], &[&[5]]]))),
        Hidden("all-reduce-missing", "one rank", of(ragged()), of(batch(&[&[&[5]], &[&[5]]]))),
        Hidden(
            "ga-missing-division-k-times",
            "Adam",
            of(ragged()).spec(naive).seen(Seen::Steps(adam())),
            of(ragged()).spec(naive).seen(Seen::Steps(sgd())),
        ),
        Hidden(
            "ga-partial-window-underscaled",
            "full windows",
            of(ragged()).then(equal()).spec(naive),
            of(ragged()).then(one()).spec(naive),
        ),
        Hidden(
            "ga-partial-window-dropped",
            "full windows",
            of(ragged()).then(equal()).seen(Seen::Steps(sgd())),
            of(ragged()).then(one()).seen(Seen::Steps(sgd())),
        ),
        Hidden("zero-grad-wrong-place", "one micro-batch", of(one()), of(equal())),
        Hidden("grad-assigned-not-accumulated", "one micro-batch", of(one()), of(equal())),
        Hidden(
            "shift-missing-on-side-path",
            "no label smoothing",
            of(ragged()),
            of(ragged()).spec(smoothed()),
        ),
        Hidden("counted-before-shift", "prompts masked", of(prompted(&ragged(), 1)), of(ragged())),
        Hidden("mask-sliced-wrong-side", "nothing masked", of(ragged()), of(prompted(&ragged(), 2))),
        Hidden("prompt-mask-one-too-many", "no prompt masked", of(ragged()), of(prompted(&ragged(), 2))),
        Hidden("pad-in-denominator", "no padding", of(equal()), of(ragged())),
        Hidden("pad-targets-trained", "no padding", of(ragged()), of(padded(&ragged(), Some(0)))),
        Hidden(
            "eos-equals-pad-masked",
            "the padding's token not in the text",
            of(padded(&one(), Some(1))),
            of(padded(&one(), None)),
        ),
        Hidden(
            "all-ignored-nan",
            "a label in every micro-batch",
            of(ragged()).spec(naive),
            of(with_an_empty_micro_batch()).spec(naive),
        ),
        Hidden("ignore-index-not-honoured", "nothing ignored", of(ragged()), of(prompted(&ragged(), 2))),
        Hidden(
            "smoothing-counts-ignored",
            "no label smoothing",
            of(prompted(&ragged(), 2)),
            of(prompted(&ragged(), 2)).spec(smoothed()),
        ),
        Hidden("packing-cross-contamination", "one document a row", of(ragged()), of(packed(&ragged()))),
        Hidden(
            "zero-grad-sparse-rows",
            "the same tokens in every step",
            of(equal()).then(equal()),
            of(ragged()).then(one()).spec(token),
        ),
    ]
}

/// Where an operator is.
fn in_the_operators() -> Vec<Hidden> {
    let of = |batch: GlobalBatch| Test::of(batch);
    let uneven: fn(usize) -> f64 = |index| 1.0 + index as f64 / 4.0;
    vec![
        Hidden(
            "ce-upstream-grad-scalar",
            "an all-ones cotangent",
            of(ragged()).seen(Seen::Upstream(|_| 1.0)),
            of(ragged()).seen(Seen::Upstream(uneven)),
        ),
        Hidden(
            "ce-upstream-grad-mean",
            "an all-ones cotangent",
            of(ragged()).seen(Seen::Upstream(|_| 1.0)),
            of(ragged()).seen(Seen::Upstream(uneven)),
        ),
        Hidden(
            "ce-backward-clobbers-logits",
            "one loss on the logits",
            of(ragged()),
            of(ragged()).spec(smoothed()),
        ),
        Hidden(
            "ce-offset-cancellation",
            "logits of usual size",
            of(ragged()).seen(Seen::Loss),
            of(ragged()).seen(Seen::Loss).parameters(large_offset),
        ),
        Hidden(
            "index-backward-overwrites",
            "no repeated token",
            of(batch(&[&[&[9]]])),
            of(repeated(&batch(&[&[&[9]]]))),
        ),
        Hidden("sqrt-grad-wrong-operand", "x = 1", of(ragged()).parameters(unit_variance), of(ragged())),
        Hidden(
            "scatter-backward-wrong-axis",
            "square matrices",
            of(ragged()).seen(Seen::Norms),
            of(ragged()),
        ),
        Hidden("fused-op-without-backward", "the loss falls", of(ragged()).seen(Seen::Loss), of(ragged())),
        Hidden("causal-mask-dropped-on-path", "padding", of(batch(&[&[&[3, 9], &[6, 2]]])), of(equal())),
        Hidden("fully-masked-row-nan", "no padding", of(equal()), of(ragged())),
    ]
}

/// Where the step is.
fn in_the_step() -> Vec<Hidden> {
    let steps = |batch: GlobalBatch, optimizer| Test::of(batch).seen(Seen::Steps(optimizer));
    let warm_up = Optimizer { warm_up: 8, ..sgd() };
    let scaled = Optimizer { loss_scale: 1024.0, ..clipped(1.0) };
    vec![
        Hidden(
            "zero-grad-missing",
            "one step",
            steps(ragged(), sgd()),
            steps(ragged(), sgd()).then(ragged()),
        ),
        Hidden(
            "tied-weight-two-steps",
            "plain SGD",
            steps(ragged(), sgd()).then(equal()),
            steps(ragged(), Optimizer { rule: adam().rule, ..sgd() }).then(equal()),
        ),
        Hidden(
            "clip-compares-squared-norm",
            "a threshold of 1",
            steps(ragged(), clipped(1.0)),
            steps(ragged(), clipped(1.5)),
        ),
        Hidden(
            "clip-before-unscale",
            "no loss scale",
            steps(ragged(), clipped(1.0)),
            steps(ragged(), scaled),
        ),
        Hidden(
            "clip-per-microbatch",
            "a threshold that is never reached",
            steps(ragged(), clipped(1e3)),
            steps(ragged(), clipped(1.0)),
        ),
        Hidden(
            "lr-schedule-per-microbatch",
            "one micro-batch a step",
            steps(one(), warm_up).then(one()),
            steps(ragged(), warm_up).then(ragged()),
        ),
    ]
}

/// Where a corpus is evaluated.
fn in_the_validation() -> Vec<Hidden> {
    let corpus = |lengths: &[&[&[usize]]]| Test::of(batch(lengths)).seen(Seen::Validation);
    vec![
        Hidden(
            "ppl-mean-of-exp",
            "losses that are all equal",
            corpus(&[&[&[2]]]),
            corpus(&[&[&[3, 9], &[7]]]),
        ),
        Hidden(
            "ppl-average-of-batch-averages",
            "batches of as many tokens",
            corpus(&[&[&[5, 5], &[5, 5]]]),
            corpus(&[&[&[3, 9], &[7]]]),
        ),
        Hidden(
            "eval-batch-misweighted",
            "a last batch that is full",
            corpus(&[&[&[5, 5], &[5, 5]]]),
            corpus(&[&[&[3, 9], &[7]]]),
        ),
    ]
}

#[test]
fn what_its_authors_tested_with_does_not_show_it_and_ours_does() {
    let mut wrong = Vec::new();
    for Hidden(id, why, theirs, ours) in
        in_the_loss().into_iter().chain(in_the_operators()).chain(in_the_step()).chain(in_the_validation())
    {
        let fault = Fault::named(id).unwrap_or_else(|| panic!("{id} is not in the catalogue"));
        let (hidden, shown) = (theirs.apart(fault), ours.apart(fault));
        if hidden > ROUNDING {
            wrong.push(format!("{id}: shows by {hidden:e} although {why}"));
        }
        if shown <= VISIBLE {
            wrong.push(format!("{id}: hides with {shown:e} without: {why}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
