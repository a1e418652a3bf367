//! Loading, setting, resetting, and what is refused.

use crate::support::{Door, Fixture, accumulate, evaluate, loaded, sequence, together};
use lossproof_spec::{Dtype, GlobalBatch, LossSpec, Sequence};
use lossproof_subject::{
    Collect, Device, GradientSink, GradientView, SinkError, SubjectError, Tensor, TensorSet, TensorValues,
};
use lossproof_torch::{Config, Gpt2Config, LlamaConfig, libtorch, libtorch_at};
use std::error::Error;

fn pico() -> (Door, TensorSet) {
    (loaded(&Gpt2Config::PICO, Dtype::F64), Fixture::of("gpt2-pico").set("parameter/"))
}

fn batch() -> GlobalBatch {
    together(vec![sequence(1, 7, 0), sequence(2, 4, 1)])
}

fn load_error(subject: &mut Door, parameters: &TensorSet) -> (String, String) {
    match subject.parameter_loading().unwrap().load(parameters) {
        Err(SubjectError::Parameter { name, problem }) => (name, problem),
        other => panic!("{other:?}"),
    }
}

#[test]
fn parameters_have_hugging_faces_names_and_shapes() {
    let gpts: [Config; 2] = [Gpt2Config::PICO.into(), Gpt2Config::NANO.into()];
    let llamas: [Config; 2] = [LlamaConfig::PICO.into(), LlamaConfig::NANO.into()];
    for config in gpts.into_iter().chain(llamas) {
        let subject = libtorch(&config, Dtype::F64, Device::Cpu).unwrap();
        let listed = subject.parameters();
        let expected = Fixture::of(config.name()).set("parameter/");
        assert_eq!(listed.len(), expected.len());
        for info in &listed {
            assert_eq!(info.shape, expected[&info.name].shape(), "{}", info.name);
        }
        let tied = listed.iter().filter_map(|info| Some((info.name.as_str(), info.tied_to.as_deref()?)));
        let expected: &[_] = match config {
            Config::Gpt2(_) => &[("wte.weight", "lm_head.weight")],
            _ => &[],
        };
        assert!(tied.eq(expected.iter().copied()));
    }
}

#[test]
fn set_lasts_until_reset_and_load_replaces_what_reset_returns_to() {
    let (mut subject, parameters) = pico();
    let before = evaluate(&mut subject, &batch());
    let moved: Vec<f64> =
        parameters["h.0.mlp.c_fc.weight"].to_f64().iter().map(|value| value + 0.25).collect();
    for _ in 0..2 {
        subject.parameter_loading().unwrap().set("h.0.mlp.c_fc.weight", &moved).unwrap();
        subject.parameter_loading().unwrap().set("ln_f.bias", &[0.5; 8]).unwrap();
        assert_ne!(evaluate(&mut subject, &batch()), before);
        subject.reset().unwrap();
        assert_eq!(evaluate(&mut subject, &batch()), before);
    }

    subject.parameter_loading().unwrap().set("ln_f.bias", &[0.5; 8]).unwrap();
    let mut other = parameters.clone();
    let zeros = Tensor::new(vec![8], TensorValues::F32(vec![0.0; 8])).unwrap();
    other.insert("ln_f.bias".to_owned(), zeros);
    subject.parameter_loading().unwrap().load(&other).unwrap();
    let after = evaluate(&mut subject, &batch());
    assert_ne!(after, before);
    subject.reset().unwrap();
    assert_eq!(evaluate(&mut subject, &batch()), after);
}

#[test]
fn parameters_read_from_a_source_are_those_that_are_loaded() {
    let (mut subject, parameters) = pico();
    let open = |source: &TensorSet| libtorch_at(&Gpt2Config::PICO, Dtype::F64, Device::Cpu, source);
    let mut read = open(&parameters).unwrap();
    let losses = evaluate(&mut read, &batch());
    assert_eq!(losses, evaluate(&mut subject, &batch()));
    read.parameter_loading().unwrap().set("ln_f.bias", &[0.5; 8]).unwrap();
    read.reset().unwrap();
    assert_eq!(evaluate(&mut read, &batch()), losses);

    let llama = Fixture::of("llama-pico").set("parameter/");
    let mut read = libtorch_at(&LlamaConfig::PICO, Dtype::F64, Device::Cpu, &llama).unwrap();
    let losses = evaluate(&mut loaded(&LlamaConfig::PICO, Dtype::F64), &batch());
    assert_eq!(evaluate(&mut read, &batch()), losses);

    let mut missing = parameters.clone();
    missing.remove("ln_f.bias");
    let mut short = missing.clone();
    short.insert("ln_f.bias".to_owned(), Tensor::new(vec![7], TensorValues::F64(vec![0.0; 7])).unwrap());
    for source in [missing, short] {
        let error = open(&source).err().unwrap();
        let cause = error.source().map(ToString::to_string).unwrap_or_default();
        assert!(format!("{error}: {cause}").contains("ln_f.bias"), "{error}: {cause}");
    }
}

#[test]
fn a_fresh_subject_is_deterministic_and_near_a_uniform_guess() {
    let nanos: [Config; 2] = [Gpt2Config::NANO.into(), LlamaConfig::NANO.into()];
    for config in nanos {
        let mut first = libtorch(&config, Dtype::F64, Device::Cpu).unwrap();
        let mut second = libtorch(&config, Dtype::F64, Device::Cpu).unwrap();
        let losses = evaluate(&mut first, &batch());
        assert_eq!(losses, evaluate(&mut second, &batch()));
        // Initial logits have standard deviation 0.02·√32 = 0.11.
        assert!(losses.iter().all(|loss| (loss - 257.0_f64.ln()).abs() < 0.6), "{losses:?}");
    }
}

#[test]
fn accumulating_leaves_nothing_behind() {
    let mut subject = loaded(&Gpt2Config::NANO, Dtype::F64);
    let spec = LossSpec::naive_accumulated_mean();
    let first = accumulate(&mut subject, &spec, &batch());
    assert_eq!(accumulate(&mut subject, &spec, &batch()), first);
}

#[test]
fn parameters_that_do_not_fit_are_named_and_change_nothing() {
    let (mut subject, parameters) = pico();
    let before = evaluate(&mut subject, &batch());
    let name = "h.0.attn.c_attn.weight";

    let mut missing = parameters.clone();
    missing.remove(name);
    assert_eq!(load_error(&mut subject, &missing).0, name);

    let mut unknown = parameters.clone();
    unknown.insert("lm_head.weight".to_owned(), parameters["wte.weight"].clone());
    assert_eq!(load_error(&mut subject, &unknown).0, "lm_head.weight");

    let mut transposed = parameters.clone();
    let values = parameters[name].values().clone();
    transposed.insert(name.to_owned(), Tensor::new(vec![24, 8], values).unwrap());
    let (found, problem) = load_error(&mut subject, &transposed);
    assert!(found == name && problem.contains("[24, 8]") && problem.contains("[8, 24]"), "{problem}");

    let mut not_finite = parameters.clone();
    let mut values = parameters[name].to_f64();
    values[5] = f64::NAN;
    not_finite.insert(name.to_owned(), Tensor::new(vec![8, 24], TensorValues::F64(values.clone())).unwrap());
    // This one fits and comes first.
    let moved = Tensor::new(vec![64, 8], TensorValues::F64(vec![0.5; 512])).unwrap();
    not_finite.insert("wte.weight".to_owned(), moved);
    let (found, problem) = load_error(&mut subject, &not_finite);
    assert!(found == name && problem.contains("NaN") && problem.contains("index 5"), "{problem}");

    assert_eq!(evaluate(&mut subject, &batch()), before);

    // Finite in f64, infinite in f32.
    let mut large = parameters.clone();
    values[5] = 1e39;
    large.insert(name.to_owned(), Tensor::new(vec![8, 24], TensorValues::F64(values)).unwrap());
    assert_eq!(load_error(&mut loaded(&Gpt2Config::PICO, Dtype::F32), &large).0, name);
    subject.parameter_loading().unwrap().load(&large).unwrap();
}

#[test]
fn a_transposed_weight_of_a_llama_is_refused_with_its_layout() {
    let name = "layers.0.mlp.down_proj.weight";
    let mut subject = loaded(&LlamaConfig::PICO, Dtype::F64);
    let before = evaluate(&mut subject, &batch());
    let mut transposed = Fixture::of("llama-pico").set("parameter/");
    let values = transposed[name].values().clone();
    transposed.insert(name.to_owned(), Tensor::new(vec![12, 8], values).unwrap());
    let (found, problem) = load_error(&mut subject, &transposed);
    assert_eq!(
        (found.as_str(), problem.as_str()),
        (name, "shape [12, 8], expected [8, 12] (Linear weights are [out, in])")
    );
    assert_eq!(evaluate(&mut subject, &batch()), before);
}

#[test]
fn setting_checks_name_and_size() {
    let (mut subject, _) = pico();
    let mut set = |name: &str, values: &[f64]| match subject.parameter_loading().unwrap().set(name, values) {
        Err(SubjectError::Parameter { name, problem }) => format!("{name}: {problem}"),
        other => panic!("{other:?}"),
    };
    assert!(set("lm_head.weight", &[]).starts_with("lm_head.weight: "));
    assert!(set("ln_f.bias", &[0.0; 7]).contains("7 values"));
}

#[test]
fn batches_outside_the_limits_are_refused_with_their_place() {
    let (mut subject, _) = pico();
    let with_token = |token: u32| {
        let mut tokens = vec![1, 2, 3];
        tokens[1] = token;
        together(vec![sequence(1, 2, 0), Sequence::new(tokens, vec![-100; 3]).unwrap()])
    };
    let expected = "sequence 1: token id 64 at position 1 is not below 64";
    let error = subject.accumulate(&with_token(64), &mut Collect::default()).unwrap_err();
    assert_eq!(error.to_string(), expected);
    let error = subject.token_losses().unwrap().evaluate(&with_token(64)).unwrap_err();
    assert_eq!(error.to_string(), expected);
    assert!(subject.token_losses().unwrap().evaluate(&with_token(63)).is_ok());
    let long = together(vec![sequence(1, 17, 0)]);
    assert!(
        subject
            .accumulate(&long, &mut Collect::default())
            .unwrap_err()
            .to_string()
            .contains("17 positions of sequence 0")
    );
}

#[test]
fn doors_that_do_not_exist_stay_closed() {
    let refused = |config: &Gpt2Config, dtype, device| match libtorch(config, dtype, device) {
        Err(SubjectError::Failed { message, .. }) => message,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("opened"),
    };
    assert!(refused(&Gpt2Config::PICO, Dtype::F16, Device::Cpu).contains("f16"));
    assert!(refused(&Gpt2Config::PICO, Dtype::F64, Device::Cuda(1_000)).contains("cuda:1000"));
    if !tch::Cuda::is_available() {
        let message = refused(&Gpt2Config::PICO, Dtype::F32, Device::Cuda(0));
        assert!(message.contains("cuda:0") && message.contains("sees 0 CUDA devices"), "{message}");
    }
    let uneven = Gpt2Config { heads: 3, ..Gpt2Config::PICO };
    assert!(refused(&uneven, Dtype::F64, Device::Cpu).contains("multiple"));
    let huge = Gpt2Config { width: 1 << 40, ..Gpt2Config::PICO };
    assert!(refused(&huge, Dtype::F64, Device::Cpu).contains("memory"));
    let headless = Gpt2Config { heads: 0, ..Gpt2Config::PICO };
    assert!(refused(&headless, Dtype::F64, Device::Cpu).contains("positive"));
}

#[test]
fn a_sink_that_refuses_is_heard() {
    struct Refuse;
    impl GradientSink for Refuse {
        fn receive(&mut self, name: &str, _: &[usize], values: GradientView<'_>) -> Result<(), SinkError> {
            assert!(matches!(values, GradientView::F32(_)));
            Err(SinkError::Unknown { name: name.to_owned() })
        }
    }
    let mut subject = loaded(&Gpt2Config::PICO, Dtype::F32);
    assert!(matches!(subject.accumulate(&batch(), &mut Refuse), Err(SubjectError::Sink(_))));
}
