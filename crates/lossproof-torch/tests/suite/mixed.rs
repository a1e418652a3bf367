//! Parameters that are not all alike: frozen ones, element types of their own, low-rank adapters; and what a
//! Llama's kin do to the embedding and to the logits.

use crate::plain_llama::PlainLlama;
use crate::steps::{read, start, step};
use crate::support::{Door, accumulate, assert_close, evaluate, norm, sequence, together};
use lossproof_spec::{Clip, Dtype, GlobalBatch, LossSpec, Optimizer, Rule};
use lossproof_subject::{
    Collect, Device, GradientSink, GradientView, ParameterInfo, SinkError, SubjectError, TensorSet,
    probe_initial_of,
};
use lossproof_torch::{Adapters, LlamaConfig, Mixture, libtorch_mixed};

const ADAPTERS: Adapters = Adapters { rank: 3, alpha: 4.5 };

fn batch() -> GlobalBatch {
    together(vec![sequence(1, 9, 0), sequence(2, 16, 2)])
}

fn make(config: &LlamaConfig, dtype: Dtype, mixture: &Mixture, initial: Option<&TensorSet>) -> Door {
    let initial = initial.map(|set| set as &dyn lossproof_subject::ParameterSource);
    libtorch_mixed(config, dtype, Device::Cpu, mixture, initial).unwrap()
}

/// A model of these parameters, values that hide nothing for all of them, adapters included.
fn probed(config: &LlamaConfig, dtype: Dtype, mixture: &Mixture) -> (Door, TensorSet) {
    let blank = make(config, dtype, &Mixture::default(), None);
    let all: Vec<ParameterInfo> = blank.info().model.frozen.into_iter().chain(blank.parameters()).collect();
    let initial = probe_initial_of(&all, 7);
    (make(config, dtype, mixture, Some(&initial)), initial)
}

fn frozen(names: &[&str]) -> Mixture {
    Mixture { frozen: names.iter().map(|&name| name.to_owned()).collect(), ..Mixture::default() }
}

fn in_f32(names: &[&str]) -> Mixture {
    let dtypes = names.iter().map(|&name| (name.to_owned(), Dtype::F32)).collect();
    Mixture { dtypes, ..Mixture::default() }
}

#[test]
fn scales_cap_and_adapters_are_those_of_plain_loops() {
    let pico = LlamaConfig::PICO;
    let two_layers = LlamaConfig { heads: 6, key_value_heads: 3, layers: 2, ..pico.clone() };
    for config in [
        LlamaConfig { embedding_scale: 8.0_f64.sqrt(), ..pico.clone() },
        LlamaConfig { logit_scale: 0.125, ..pico.clone() },
        LlamaConfig { logit_cap: Some(1.5), ..pico.clone() },
        LlamaConfig { adapters: Some(ADAPTERS), ..pico.clone() },
        LlamaConfig {
            embedding_scale: 0.3,
            logit_scale: 1.5,
            logit_cap: Some(2.0),
            adapters: Some(ADAPTERS),
            ..two_layers
        },
    ] {
        let (mut subject, parameters) = probed(&config, Dtype::F64, &Mixture::default());
        let losses = |config: &LlamaConfig| -> Vec<f64> {
            let plain = PlainLlama { config, parameters: &parameters, mistake: None };
            batch().sequences().flat_map(|sequence| plain.token_losses(sequence.input_ids())).collect()
        };
        let expected = losses(&config);
        assert_close(&evaluate(&mut subject, &batch()), &expected, norm(&expected), &format!("{config:?}"));
        let without = losses(&LlamaConfig {
            embedding_scale: 1.0,
            logit_scale: 1.0,
            logit_cap: None,
            adapters: None,
            ..config
        });
        let moved: Vec<f64> = without.iter().zip(&expected).map(|(a, b)| a - b).collect();
        assert!(norm(&moved) > 1e-3 * norm(&expected), "nothing is seen of it");
    }
}

#[test]
fn adapters_begin_as_nothing_and_are_all_that_is_trained() {
    let config = LlamaConfig { adapters: Some(ADAPTERS), ..LlamaConfig::PICO };
    let mut adapted = make(&config, Dtype::F64, &Mixture::default(), None);
    let mut base = make(&LlamaConfig::PICO, Dtype::F64, &Mixture::default(), None);
    assert_eq!(evaluate(&mut adapted, &batch()), evaluate(&mut base, &batch()));
    assert_eq!(adapted.info().model.frozen, base.parameters());
    let names: Vec<String> = adapted.parameters().into_iter().map(|info| info.name).collect();
    let expected = ["q_proj.lora_A", "q_proj.lora_B", "v_proj.lora_A", "v_proj.lora_B"];
    assert_eq!(names, expected.map(|part| format!("layers.0.self_attn.{part}.weight")));
    let (_, gradient) = accumulate(&mut adapted, &LossSpec::token_mean(), &batch());
    for (name, tensor) in &gradient {
        assert_eq!(norm(&tensor.to_f64()) > 0.0, name.contains("lora_B"), "{name}");
    }
}

#[test]
fn what_is_frozen_has_no_gradient_no_part_in_the_norm_and_stays() {
    let names = ["embed_tokens.weight", "layers.0.mlp.down_proj.weight", "norm.weight"];
    let (mut whole, initial) = probed(&LlamaConfig::PICO, Dtype::F64, &Mixture::default());
    let (mut part, _) = probed(&LlamaConfig::PICO, Dtype::F64, &frozen(&names));
    let spec = LossSpec::token_mean();
    let (seen, all) = accumulate(&mut whole, &spec, &batch());
    let (same, some) = accumulate(&mut part, &spec, &batch());
    assert_eq!(seen.loss.to_bits(), same.loss.to_bits());
    let listed: Vec<String> = part.parameters().into_iter().map(|info| info.name).collect();
    let frozen: Vec<String> = part.info().model.frozen.into_iter().map(|info| info.name).collect();
    assert_eq!(frozen, names);
    assert!(listed.len() + names.len() == all.len() && some.keys().all(|name| listed.contains(name)));
    for (name, tensor) in &some {
        assert_eq!(*tensor, all[name], "{name}");
    }

    let squares: f64 = some.values().map(|tensor| norm(&tensor.to_f64()).powi(2)).sum();
    let clip = Some(Clip { max_norm: squares.sqrt(), epsilon: 0.0 });
    let rule = Rule::Sgd { momentum: 0.5, weight_decay: 0.25 };
    start(&mut part, &Optimizer { rule, clip, ..Optimizer::sgd(0.125) });
    for number in 0..3 {
        let report = step(&mut part, &batch());
        assert_eq!(report.tensor_norms.len(), listed.len());
        if number == 0 {
            assert!(
                (report.grad_norm / squares.sqrt() - 1.0).abs() < 1e-14 && report.clip_factor > 1.0 - 1e-14
            );
        }
    }
    // What it is now is what it trained, beside what it began with.
    let mut now = initial.clone();
    now.extend(read(&mut part));
    let mut expected = make(&LlamaConfig::PICO, Dtype::F64, &Mixture::default(), Some(&now));
    assert_eq!(evaluate(&mut part, &batch()), evaluate(&mut expected, &batch()));
    part.reset().unwrap();
    assert_eq!(evaluate(&mut part, &batch()), evaluate(&mut whole, &batch()));
}

#[test]
fn what_is_frozen_is_neither_loaded_nor_set() {
    let name = "lm_head.weight";
    let (mut subject, initial) = probed(&LlamaConfig::PICO, Dtype::F64, &frozen(&[name]));
    let refused = |answer: Result<(), SubjectError>| match answer {
        Err(SubjectError::Parameter { name, problem }) => (name, problem),
        other => panic!("{other:?}"),
    };
    let loader = subject.parameter_loading().unwrap();
    let (which, problem) = refused(loader.load(&initial));
    assert!(which == name && problem.contains("frozen"), "{which}: {problem}");
    let (_, problem) = refused(loader.set(name, &initial[name].to_f64()));
    assert!(problem.contains("frozen"), "{problem}");
    let mut trained = initial;
    trained.remove(name);
    loader.load(&trained).unwrap();
}

/// Whether each tensor comes in f32.
#[derive(Default)]
struct Single(Vec<(String, bool)>);

impl GradientSink for Single {
    fn receive(&mut self, name: &str, _: &[usize], values: GradientView<'_>) -> Result<(), SinkError> {
        self.0.push((name.to_owned(), matches!(values, GradientView::F32(_))));
        Ok(())
    }
}

#[test]
fn values_in_f32_are_computed_with_in_f64() {
    let names = ["layers.0.input_layernorm.weight", "lm_head.weight"];
    let (mut mixed, _) = probed(&LlamaConfig::PICO, Dtype::F64, &in_f32(&names));
    // Values for probes are exact in f32.
    let (mut double, _) = probed(&LlamaConfig::PICO, Dtype::F64, &Mixture::default());
    let spec = LossSpec::sum();
    let (seen, gradient) = accumulate(&mut mixed, &spec, &batch());
    let (expected, exact) = accumulate(&mut double, &spec, &batch());
    assert_eq!(seen.loss.to_bits(), expected.loss.to_bits());
    for (name, tensor) in &gradient {
        #[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is what is meant")]
        let rounded = |value: f64| f64::from(value as f32);
        let mut due = exact[name].to_f64();
        if names.contains(&name.as_str()) {
            due = due.into_iter().map(rounded).collect();
        }
        assert_eq!(tensor.to_f64(), due, "{name}");
    }
    start(&mut mixed, &Optimizer::sgd(0.5));
    step(&mut mixed, &batch());
    let (mut gradients, mut parameters) = (Single::default(), Single::default());
    mixed.accumulate(&batch(), &mut gradients).unwrap();
    mixed.optimizer_steps().unwrap().read(&mut parameters).unwrap();
    for (name, single) in gradients.0.iter().chain(&parameters.0) {
        assert_eq!(*single, names.contains(&name.as_str()), "{name}");
    }
}

#[test]
fn masters_in_f64_are_computed_with_in_f32_and_keep_small_steps() {
    let pico = LlamaConfig::PICO;
    let (mut plain, _) = probed(&pico, Dtype::F32, &Mixture::default());
    let all = plain.parameters().into_iter().map(|info| (info.name, Dtype::F64)).collect();
    let (mut masters, _) = probed(&pico, Dtype::F32, &Mixture { dtypes: all, ..Mixture::default() });
    let (seen, _) = accumulate(&mut masters, &LossSpec::token_mean(), &batch());
    let (expected, _) = accumulate(&mut plain, &LossSpec::token_mean(), &batch());
    assert_eq!(seen.loss.to_bits(), expected.loss.to_bits());
    // A step far below the spacing of f32 is lost there, and kept in f64.
    let moved = |subject: &mut Door| {
        let mut before = Collect::default();
        subject.optimizer_steps().unwrap().read(&mut before).unwrap();
        start(subject, &Optimizer::sgd(1e-12));
        step(subject, &batch());
        read(subject)["norm.weight"] != before.into_tensors()["norm.weight"]
    };
    assert!(moved(&mut masters) && !moved(&mut plain));
}

#[test]
fn mixtures_that_do_not_exist_are_refused() {
    let refused = |mixture: &Mixture| match libtorch_mixed(
        &LlamaConfig::PICO,
        Dtype::F64,
        Device::Cpu,
        mixture,
        None,
    ) {
        Err(SubjectError::Failed { message, .. }) => message,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("opened {mixture:?}"),
    };
    assert!(refused(&frozen(&["wte.weight"])).contains("`wte.weight`"));
    assert!(refused(&in_f32(&["norm.bias"])).contains("`norm.bias`"));
    let dtypes = [("norm.weight".to_owned(), Dtype::F16)].into();
    assert!(refused(&Mixture { dtypes, ..Mixture::default() }).contains("f16"));
    let blank = make(&LlamaConfig::PICO, Dtype::F64, &Mixture::default(), None);
    let all = blank.parameters().into_iter().map(|info| info.name).collect();
    assert!(refused(&Mixture { frozen: all, ..Mixture::default() }).contains("every parameter"));
}
