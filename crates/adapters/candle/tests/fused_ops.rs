//! candle 0.11.1's own operations under training: those without a backward in the trainers, where the laws
//! show them, and
//! those whose backward is wrong on candle-core alone, against finite differences. docs/bugs.md lists what is
//! seen here.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::{ops, rotary_emb};
use lossproof::Collect;
use lossproof::diagnosis::Diagnosis;
use lossproof::laws::{Campaign, LAWS, Verdict};
use lossproof::{GlobalBatch, Sequence};
use lossproof_candle::{Architecture, Kernel, Mean, Precision, Settings, candle};
use std::{fmt::Write as _, thread};

const FIXED: &str = "candle no longer does what docs/bugs.md says of 0.11.1: update the entry";

/// Random cases per law.
const CASES: u32 = 2;

/// From one tensor to another.
type Operation<'a> = &'a dyn Fn(&Tensor) -> Result<Tensor>;

fn vector(values: &[f64]) -> Tensor {
    Tensor::new(values, &Device::Cpu).unwrap()
}

/// What each output weighs in the number that is differentiated: no two the same.
fn weighed(output: &Tensor) -> Result<Tensor> {
    let flat = output.flatten_all()?;
    let weights: Vec<f64> = (0..flat.elem_count()).map(|index| 2.0 + index as f64).collect();
    (flat * vector(&weights))?.sum_all()
}

/// The gradient by candle of the weighed outputs at a point, and the same by central differences; the first
/// is `None`
/// where candle has none.
fn gradients(at: &Tensor, function: impl Fn(&Tensor) -> Result<Tensor>) -> (Option<Vec<f64>>, Vec<f64>) {
    const STEP: f64 = 1e-5;
    let variable = Var::from_tensor(at).unwrap();
    let store = weighed(&function(&variable).unwrap()).unwrap().backward().unwrap();
    let found = store.get(&variable).map(|gradient| gradient.flatten_all().unwrap().to_vec1().unwrap());
    let point: Vec<f64> = at.flatten_all().unwrap().to_vec1().unwrap();
    let mut differences = Vec::new();
    for index in 0..point.len() {
        let moved = |step: f64| -> f64 {
            let mut moved = point.clone();
            moved[index] += step;
            let moved = Tensor::from_vec(moved, at.shape(), &Device::Cpu).unwrap();
            weighed(&function(&moved).unwrap()).unwrap().to_scalar().unwrap()
        };
        differences.push((moved(STEP) - moved(-STEP)) / (2.0 * STEP));
    }
    (found, differences)
}

/// The largest difference of the two, relative to the largest number.
fn distance(found: &[f64], right: &[f64]) -> f64 {
    let largest = right.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
    let mut distance = 0.0_f64;
    for (found, right) in found.iter().zip(right) {
        distance = distance.max((found - right).abs() / largest);
    }
    distance
}

/// What the laws and a gradient say of a trainer with one of candle's operations.
fn shown(architecture: Architecture, kernel: Kernel, precision: Precision) -> String {
    let settings = Settings { kernel, precision, ..Settings::new(architecture, Mean::OfTokens) };
    let campaign = Campaign { cases: CASES, shrink: false, control: false, ..Campaign::default() };
    let mut broken = Vec::new();
    for law in LAWS {
        let report = campaign.run(law, &mut *candle(settings).unwrap()).unwrap();
        if matches!(report.verdict, Verdict::Fail | Verdict::Errored) {
            broken.push(law.id());
        }
    }
    let sequence = Sequence::new(vec![3, 14, 1, 5, 9], vec![3, 14, 1, 5, 9]).unwrap();
    let mut gradient = Collect::default();
    candle(settings).unwrap().accumulate(&GlobalBatch::single(sequence), &mut gradient).unwrap();
    let mut dead = Vec::new();
    for (name, tensor) in gradient.into_tensors() {
        if tensor.to_f64().iter().all(|value| value.abs() <= 0.0) {
            dead.push(name);
        }
    }
    let mut text = format!("{architecture:?} with {kernel:?} in {precision:?}\n");
    writeln!(text, "  breaks {} laws: {}", broken.len(), broken.join(", ")).unwrap();
    writeln!(text, "  without a gradient: {}", dead.join(", ")).unwrap();
    let diagnosis = Diagnosis::alone(&mut *candle(settings).unwrap()).to_string();
    writeln!(text, "  diagnosis: {}", diagnosis.replace('\n', "\n    ")).unwrap();
    text
}

#[test]
fn the_laws_show_operations_without_a_backward() {
    let trainers = [
        (Architecture::Gpt2, Kernel::FusedNorm, Precision::Single),
        (Architecture::Gpt2, Kernel::FusedSoftmax, Precision::Single),
        (Architecture::Llama, Kernel::FusedNorm, Precision::Single),
        (Architecture::Llama, Kernel::FusedSoftmax, Precision::Single),
        (Architecture::Llama, Kernel::FusedRotary, Precision::Single),
        (Architecture::Gpt2, Kernel::Gelu, Precision::Single),
        (Architecture::Gpt2, Kernel::Gelu, Precision::Double),
    ];
    let text: String = thread::scope(|scope| {
        let trained =
            |(architecture, kernel, precision)| scope.spawn(move || shown(architecture, kernel, precision));
        let threads = trainers.map(trained);
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    insta::assert_snapshot!(text);
}

#[test]
fn fused_operations_end_the_backward_pass_without_an_error() {
    let device = &Device::Cpu;
    let rows = Tensor::new(&[[[[0.3_f32, -1.2, 0.7, 2.0], [-0.4, 1.1, 0.2, -0.9]]]], device).unwrap();
    let gain = Tensor::new(&[1.0_f32, 0.5, 2.0, -1.0], device).unwrap();
    let bias = Tensor::new(&[0.1_f32, 0.2, 0.3, 0.4], device).unwrap();
    let angles = Tensor::new(&[[0.0_f32, 0.0], [1.0, 0.01]], device).unwrap();
    let (cosines, sines) = (angles.cos().unwrap(), angles.sin().unwrap());
    let fused: [(&str, Operation<'_>); 5] = [
        ("layer_norm", &|x| ops::layer_norm(x, &gain, &bias, 1e-5)),
        ("rms_norm", &|x| ops::rms_norm(x, &gain, 1e-5)),
        ("softmax_last_dim", &ops::softmax_last_dim),
        ("rope", &|x| rotary_emb::rope(x, &cosines, &sines)),
        ("rope_i", &|x| rotary_emb::rope_i(x, &cosines, &sines)),
    ];
    for (name, function) in fused {
        let variable = Var::from_tensor(&rows).unwrap();
        let store = function(&variable).unwrap().sqr().unwrap().sum_all().unwrap().backward().unwrap();
        assert!(store.get(&variable).is_none(), "{name}: {FIXED}");
    }
    let double = to_double(&rows);
    for (refused, name) in [
        (ops::layer_norm(&double, &to_double(&gain), &to_double(&bias), 1e-5).is_err(), "layer_norm"),
        (ops::rms_norm(&double, &to_double(&gain), 1e-5).is_err(), "rms_norm"),
    ] {
        assert!(refused, "{name} of f64: {FIXED}");
    }
}

fn to_double(tensor: &Tensor) -> Tensor {
    tensor.to_dtype(DType::F64).unwrap()
}

#[test]
fn their_slow_forms_are_right() {
    let rows = vector(&[0.3, -1.2, 0.7, 2.0, -0.4, 1.1, 0.2, -0.9]).reshape((1, 1, 2, 4)).unwrap();
    let (gain, bias) = (vector(&[1.0, 0.5, 2.0, -1.0]), vector(&[0.1, 0.2, 0.3, 0.4]));
    let angles = vector(&[0.0, 0.0, 1.0, 0.01]).reshape((2, 2)).unwrap();
    let (cosines, sines) = (angles.cos().unwrap(), angles.sin().unwrap());
    let slow: [(&str, Operation<'_>); 8] = [
        ("layer_norm_slow", &|x| ops::layer_norm_slow(x, &gain, &bias, 1e-5)),
        ("rms_norm_slow", &|x| ops::rms_norm_slow(x, &gain, 1e-5)),
        ("softmax", &|x| ops::softmax(x, 3)),
        ("log_softmax", &|x| ops::log_softmax(x, 3)),
        ("rope_slow", &|x| rotary_emb::rope_slow(x, &cosines, &sines)),
        ("silu", &ops::silu),
        ("sigmoid", &ops::sigmoid),
        ("tanh", &Tensor::tanh),
    ];
    for (name, function) in slow {
        let (found, right) = gradients(&rows, function);
        let distance = distance(&found.unwrap(), &right);
        assert!(distance < 1e-8, "{name}: off by {distance:.1e}");
    }
}

#[test]
fn the_gradient_of_gelu_has_six_digits() {
    let at = vector(&[-2.0, -0.7, -0.1, 0.4, 1.3, 3.0]);
    for (name, function) in [
        ("gelu", Tensor::gelu as fn(&Tensor) -> Result<Tensor>),
        ("gelu_erf", Tensor::gelu_erf as fn(&Tensor) -> Result<Tensor>),
    ] {
        let (found, right) = gradients(&at, function);
        let distance = distance(&found.unwrap(), &right);
        assert!((1e-8..1e-5).contains(&distance), "{name}: off by {distance:.1e}: {FIXED}");
    }
}

/// A base of three, three places in it of which one comes twice, and what is put there.
fn scattered() -> [Tensor; 3] {
    let places = Tensor::new(&[1_u32, 1, 2], &Device::Cpu).unwrap();
    [vector(&[0.5, -1.0, 2.0]), places, vector(&[4.0, 5.0, 6.0])]
}

#[test]
fn the_base_gradients_of_scatter_and_scatter_add_are_swapped() {
    let [base, places, source] = scattered();
    // What is overwritten has no influence, and what is added to has.
    let (found, right) = gradients(&base, |base| base.scatter(&places, &source, 0));
    assert!(distance(&right, &[2.0, 0.0, 0.0]) < 1e-8);
    assert!(distance(&found.unwrap(), &[2.0, 3.0, 4.0]) < 1e-8, "scatter: {FIXED}");
    let (found, right) = gradients(&base, |base| base.scatter_add(&places, &source, 0));
    assert!(distance(&right, &[2.0, 3.0, 4.0]) < 1e-8);
    assert!(distance(&found.unwrap(), &[2.0, 0.0, 0.0]) < 1e-8, "scatter_add: {FIXED}");
}

#[test]
fn the_backward_of_scatter_add_fails_unless_there_are_as_many_places_as_in_the_base() {
    let [base, places, source] = scattered();
    let (base, source) = (Var::from_tensor(&base).unwrap(), source.narrow(0, 0, 2).unwrap());
    let sum = base.scatter_add(&places.narrow(0, 0, 2).unwrap(), &source, 0).unwrap();
    let failed = sum.sum_all().unwrap().backward().unwrap_err().to_string();
    assert!(failed.contains("shape mismatch in scatter (indexes, src)"), "{failed}: {FIXED}");
}

#[test]
fn a_source_that_scatter_overwrites_gets_a_gradient() {
    let [base, places, source] = scattered();
    let (found, right) = gradients(&source, |source| base.scatter(&places, source, 0));
    assert!(distance(&right, &[0.0, 3.0, 4.0]) < 1e-8);
    assert!(distance(&found.unwrap(), &[3.0, 3.0, 4.0]) < 1e-8, "scatter: {FIXED}");
}

#[test]
fn what_is_gathered_selected_and_added_has_the_right_gradient() {
    let [base, places, source] = scattered();
    let selections: [(&str, &Tensor, Operation<'_>); 4] = [
        ("source of scatter_add", &source, &|source| base.scatter_add(&places, source, 0)),
        ("gather", &base, &|base| base.gather(&places, 0)),
        ("index_select", &base, &|base| base.index_select(&places, 0)),
        ("index_add", &base, &|base| base.index_add(&places, &source, 0)),
    ];
    for (name, at, function) in selections {
        let (found, right) = gradients(at, function);
        assert!(distance(&found.unwrap(), &right) < 1e-8, "{name}");
    }
}
