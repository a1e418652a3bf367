//! What looks like a bug and is none: legitimate variants pass every law, and facts that were reported as bugs hold.

use lossproof_cases::strategies::Size;
use lossproof_faults::{Control, Fault};
use lossproof_gpt2::Config;
use lossproof_laws::{Campaign, Verdict};
use lossproof_numerics::difference;
use lossproof_spec::{
    Adam, Dtype, EpsilonPlacement, GlobalBatch, IGNORE_INDEX, LossSpec, MicroBatch, Optimizer, Rank, Rule,
    Sequence, SequenceFields,
};
use lossproof_subject::{Collect, Subject, SubjectError, TensorSet};
use lossproof_tests::{error_model, hard_batch, laws_of_a_step, ours, packed_batch, ragged_batch};
use lossproof_torch::{Gpt2Config, libtorch};
use rayon::prelude::*;

/// Small cases of every kind, enough of them for each law to certify what it compares.
fn campaign() -> Campaign {
    let size = Size { ranks: 1..=3, micro_batches: 1..=3, sequences: 1..=3, positions: 1..=12 };
    Campaign { cases: 32, size, shrink: false, ..Campaign::default() }
}

fn honest() -> Box<dyn Subject> {
    ours(Config::Pico, Dtype::F64)
}

#[test]
fn no_law_raises_an_alarm_over_a_control() {
    let pairs: Vec<_> =
        Control::all().flat_map(|control| laws_of_a_step().map(move |law| (control, law))).collect();
    let wrong = |(control, law): (&'static Control, _)| {
        let report = campaign().run(law, &mut *control.inject(honest())).expect("no case files are read");
        (report.verdict != Verdict::Pass).then(|| format!("{}: {report}", control.id))
    };
    let wrong: Vec<_> = pairs.into_par_iter().filter_map(wrong).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Loss and gradient under a spec.
fn computed(subject: &mut dyn Subject, spec: &LossSpec, batch: &GlobalBatch) -> (f64, TensorSet) {
    subject.configure(spec).expect("a spec it supports");
    let mut gradient = Collect::default();
    let observed = subject.accumulate(batch, &mut gradient).expect("a batch inside its limits");
    (observed.loss, gradient.into_tensors())
}

/// The largest relative difference of any tensor.
fn apart(one: &TensorSet, other: &TensorSet) -> f64 {
    let apart = |(name, tensor): (&String, &lossproof_subject::Tensor)| {
        let twin = &other[name];
        let difference = difference(|i| tensor.get(i), |i| twin.get(i), 0..tensor.elements());
        difference.relative_to(difference.expected.max(f64::MIN_POSITIVE))
    };
    one.iter().map(apart).fold(0.0, f64::max)
}

#[test]
fn the_operators_written_out_agree_with_the_reference() {
    let control = Control::named("operators-written-out").expect("it is a control");
    let smoothed = LossSpec { label_smoothing: 0.1, z_loss: 1e-2, ..LossSpec::token_mean() };
    for config in [Config::Pico, Config::Nano] {
        let (mut reference, mut written) =
            (ours(config, Dtype::F64), control.inject(ours(config, Dtype::F64)));
        for batch in [ragged_batch(1), hard_batch(2), packed_batch(3)] {
            let model = error_model(config.shape(), &batch);
            for spec in [LossSpec::token_mean(), LossSpec::naive_accumulated_mean(), smoothed] {
                let (loss, gradient) = computed(&mut *reference, &spec, &batch);
                let (written_loss, written_gradient) = computed(&mut *written, &spec, &batch);
                let error = (loss - written_loss).abs() / loss.abs();
                assert!(error <= model.loss_bound(Dtype::F64), "{config}, {spec}: losses {error:e} apart");
                let error = apart(&written_gradient, &gradient);
                assert!(error <= model.gradient_bound(Dtype::F64), "{config}, {spec}: {error:e} apart");
            }
            let evaluate = |subject: &mut dyn Subject| {
                subject.token_losses().expect("it evaluates").evaluate(&batch).expect("token losses")
            };
            let (losses, written_losses) = (evaluate(&mut *reference), evaluate(&mut *written));
            assert_eq!(losses.len(), written_losses.len());
            for (loss, written) in losses.iter().zip(written_losses) {
                assert!((loss - written).abs() <= model.loss_bound(Dtype::F64) * loss.max(1.0));
            }
        }
    }
}

#[test]
fn operators_cannot_be_broken_in_a_model_of_no_known_configuration() {
    let pico = Gpt2Config::named("gpt2-pico").expect("a configuration");
    let wide = Gpt2Config { width: 16, ..pico };
    let honest = libtorch(&wide, Dtype::F64, lossproof_subject::Device::Cpu).expect("libtorch");
    let fault = Fault::named("softmax-backward-diagonal-only").expect("it is in the catalogue");
    let mut subject = fault.inject(honest);
    let answer = subject.accumulate(&ragged_batch(1), &mut Collect::default());
    let Err(SubjectError::Failed { message, .. }) = answer else { panic!("{answer:?}") };
    assert!(message.contains("a known GPT-2 configuration"), "{message}");
}

/// One rank of micro-batches of sequences of these lengths, every label given.
fn batch(lengths: &[&[usize]]) -> GlobalBatch {
    let mut token = 0;
    let mut sequence = |&length: &usize| {
        let ids: Vec<u32> = (0..length)
            .map(|_| {
                token = (token * 5 + 17) % 64;
                token
            })
            .collect();
        let labels = ids.iter().map(|&id| i64::from(id)).collect();
        Sequence::new(ids, labels).expect("a sequence")
    };
    let mut micro_batch =
        |lengths: &&[usize]| MicroBatch::new(lengths.iter().map(&mut sequence).collect()).expect("sequences");
    let rank = Rank::new(lengths.iter().map(&mut micro_batch).collect()).expect("micro-batches");
    GlobalBatch::new(vec![rank]).expect("ranks")
}

const EQUAL: &[&[usize]] = &[&[5, 5], &[5, 5]];
const RAGGED: &[&[usize]] = &[&[3, 9], &[5]];

/// Rounding of two ways to the same number, far below any real difference.
const SAME: f64 = 1e-13;
const DIFFERENT: f64 = 1e-3;

/// How far two specs are apart on a batch.
fn specs_apart(one: LossSpec, other: LossSpec, batch: &GlobalBatch) -> f64 {
    let (one, other) = (computed(&mut *honest(), &one, batch), computed(&mut *honest(), &other, batch));
    apart(&one.1, &other.1).max((one.0 - other.0).abs() / other.0.abs())
}

/// meta-pytorch/torchtune#2332.
#[test]
fn the_mean_of_means_is_exact_on_micro_batches_of_equal_length() {
    let (naive, mean) = (LossSpec::naive_accumulated_mean(), LossSpec::token_mean());
    assert!(specs_apart(naive, mean, &batch(EQUAL)) < SAME);
    assert!(specs_apart(naive, mean, &batch(RAGGED)) > DIFFERENT);
}

/// NVIDIA-NeMo/Speech#8343.
#[test]
fn the_mean_over_sequences_is_that_over_tokens_where_lengths_are_equal() {
    let (sequences, tokens) = (LossSpec::sequence_mean(), LossSpec::token_mean());
    assert!(specs_apart(sequences, tokens, &batch(EQUAL)) < SAME);
    assert!(specs_apart(sequences, tokens, &batch(RAGGED)) > DIFFERENT);
}

/// pytorch/pytorch#63541: when all columns of the head are alike, the loss sees nothing but the sum of the final norm's
/// output, whose gradient with respect to what is normed is zero. It looks like a severed graph.
#[test]
fn a_layer_norm_followed_by_a_sum_lets_no_gradient_through() {
    let mut subject = honest();
    let width = Config::Pico.shape().width;
    let rows = Config::Pico.shape().vocabulary;
    let table: Vec<f64> = (0..rows).flat_map(|row| vec![(row as f64 * 0.7).sin(); width]).collect();
    let loader = subject.parameter_loading().expect("it loads parameters");
    loader.set("wte.weight", &table).expect("a table");
    loader.set("ln_f.weight", &vec![1.0; width]).expect("a gain");
    let (_, gradient) = computed(&mut *subject, &LossSpec::token_mean(), &batch(RAGGED));
    let norm = |name: &str| gradient[name].to_f64().iter().map(|g| g * g).sum::<f64>().sqrt();
    for name in ["wpe.weight", "h.0.attn.c_attn.weight", "h.0.mlp.c_fc.weight", "h.0.ln_1.weight"] {
        // The positions alone vary over the columns, and little: the norm divides their rounding by their deviation.
        assert!(norm(name) < 1e3 * SAME * norm("ln_f.bias"), "{name}: {:e}", norm(name));
    }
    assert!(norm("ln_f.bias") > DIFFERENT);
}

/// Parameters after one step from the initial ones.
fn stepped(subject: &mut dyn Subject, optimizer: &Optimizer) -> TensorSet {
    subject.configure(&LossSpec::token_mean()).expect("a spec it supports");
    let steps = subject.optimizer_steps().expect("it takes steps");
    steps.start(optimizer).expect("an optimizer it has");
    steps.step(&batch(RAGGED)).expect("a step");
    let mut parameters = Collect::default();
    steps.read(&mut parameters).expect("parameters");
    parameters.into_tensors()
}

/// tensorflow/tensorflow#35102: ε̂ is not corrected for bias. At step k that is ε over `√(1 − β₂^k)`.
#[test]
fn where_epsilon_stands_is_a_declaration_that_is_honoured() {
    let adam = |epsilon, epsilon_placement| Optimizer {
        rule: Rule::Adam(Adam {
            beta_1: 0.9,
            beta_2: 0.75,
            epsilon,
            epsilon_placement,
            weight_decay: 0.0,
            decayed: lossproof_spec::Decayed::All,
        }),
        ..Optimizer::sgd(0.125)
    };
    let hat = adam(1e-2, EpsilonPlacement::BeforeCorrection);
    let corrected = adam(1e-2 / 0.25_f64.sqrt(), EpsilonPlacement::AfterCorrection);
    let plain = adam(1e-2, EpsilonPlacement::AfterCorrection);
    let control = Control::named("adam-epsilon-hat").expect("it is a control");
    for mut subject in [honest(), control.inject(honest())] {
        let after = stepped(&mut *subject, &hat);
        assert!(apart(&after, &stepped(&mut *honest(), &corrected)) < SAME);
        assert!(apart(&after, &stepped(&mut *honest(), &plain)) > DIFFERENT);
    }
}

/// meta-pytorch/torchtune#1177: whether the first token of a packed document is predicted is said by its label.
#[test]
fn a_label_at_a_boundary_of_documents_is_trained_on_where_it_is_given() {
    let row = |boundary: bool, rest: bool| {
        let input_ids: Vec<u32> = vec![5, 9, 13, 21, 2, 40];
        let given = |position| if position == 3 { boundary } else { rest };
        let label =
            |(position, &id): (usize, &u32)| if given(position) { i64::from(id) } else { IGNORE_INDEX };
        let fields = SequenceFields {
            labels: input_ids.iter().enumerate().map(label).collect(),
            segment_ids: vec![1, 1, 1, 2, 2, 2],
            position_ids: vec![0, 1, 2, 0, 1, 2],
            input_ids,
            targets: Vec::new(),
        };
        GlobalBatch::single(Sequence::from_fields(fields).expect("a row"))
    };
    let loss = |batch| computed(&mut *honest(), &LossSpec::sum(), &batch).0;
    let (both, boundary, rest) = (loss(row(true, true)), loss(row(true, false)), loss(row(false, true)));
    assert!(boundary > DIFFERENT && (both - boundary - rest).abs() < SAME * both);
}
