//! Mixed situations: parameters of several element types, frozen layers, low-rank adapters, a scaled embedding,
//! scaled logits, capped logits. An honest trainer of each breaks no law, whatever is seen of it, and a bug
//! of each dies.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use lossproof_cases::strategies::Size;
use lossproof_faults::{
    Profile,
    kit::{HandedOver, Hooks, wrap},
};
use lossproof_laws::{Campaign, LAWS, Law, Report, Verdict};
use lossproof_spec::{Dtype, LossSpec, Rule};
use lossproof_subject::{
    Collect, Count, Device, Discard, ModelInfo, ParameterInfo, Subject, SubjectInfo, Tensor, TensorSet,
    TensorValues, probe_initial_of,
};
use lossproof_tests::bf16;
use lossproof_torch::{Adapters, LlamaConfig, Mixture, libtorch_mixed};
use rayon::prelude::*;
use std::fmt::Write;

/// A trainer that differs from the plain one in one respect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Situation {
    /// It computes in f64, and holds gains and head in f32.
    SingleGains,
    /// It computes in f32, and holds every parameter in f64.
    DoubleMasters,
    /// The feed-forward layer is not trained.
    Frozen,
    /// Low-rank adapters alone are trained.
    Adapted,
    /// The embedding is multiplied by √C.
    Scaled,
    /// Logits are divided by 8.
    ScaledLogits,
    /// Logits are capped.
    Capped,
}

use Situation::{Adapted, Capped, DoubleMasters, Frozen, Scaled, ScaledLogits, SingleGains};

const ALL: [Situation; 7] = [SingleGains, DoubleMasters, Frozen, Adapted, Scaled, ScaledLogits, Capped];

const EMBEDDING: &str = "embed_tokens.weight";

const ADAPTERS: Adapters = Adapters { rank: 3, alpha: 6.0 };

/// Granite's.
const LOGIT_SCALE: f64 = 0.125;

/// Low enough to bend logits of the size of one.
const CAP: f64 = 3.0;

/// What all begin with.
const SEED: u64 = 3;

/// A model that begins with values that hide nothing, but for adapters, which begin as peft's do.
fn make(config: &LlamaConfig, dtype: Dtype, mixture: &Mixture) -> Box<dyn Subject> {
    let blank = libtorch_mixed(config, dtype, Device::Cpu, &Mixture::default(), None).unwrap();
    let all: Vec<ParameterInfo> = blank.info().model.frozen.into_iter().chain(blank.parameters()).collect();
    let mut initial = probe_initial_of(&all, SEED);
    for (name, tensor) in &mut initial {
        if name.ends_with("lora_B.weight") {
            let zeros = TensorValues::F64(vec![0.0; tensor.elements()]);
            *tensor = Tensor::new(tensor.shape().to_vec(), zeros).unwrap();
        }
    }
    libtorch_mixed(config, dtype, Device::Cpu, mixture, Some(&initial)).unwrap()
}

fn plain() -> Box<dyn Subject> {
    make(&LlamaConfig::PICO, Dtype::F64, &Mixture::default())
}

fn feed_forward() -> [String; 3] {
    ["gate", "up", "down"].map(|part| format!("layers.0.mlp.{part}_proj.weight"))
}

impl Situation {
    fn honest(self) -> Box<dyn Subject> {
        let pico = LlamaConfig::PICO;
        let in_f64 = |config: &LlamaConfig| make(config, Dtype::F64, &Mixture::default());
        match self {
            SingleGains => {
                let mut mixture = Mixture::default();
                for info in plain().parameters() {
                    if info.shape.len() == 1 || info.name == "lm_head.weight" {
                        mixture.dtypes.insert(info.name, Dtype::F32);
                    }
                }
                make(&pico, Dtype::F64, &mixture)
            }
            DoubleMasters => {
                let all = plain().parameters().into_iter().map(|info| (info.name, Dtype::F64));
                make(&pico, Dtype::F32, &Mixture { dtypes: all.collect(), ..Mixture::default() })
            }
            Frozen => {
                let mixture = Mixture { frozen: feed_forward().into(), ..Mixture::default() };
                make(&pico, Dtype::F64, &mixture)
            }
            Adapted => in_f64(&LlamaConfig { adapters: Some(ADAPTERS), ..pico }),
            Scaled => in_f64(&LlamaConfig { embedding_scale: (pico.width as f64).sqrt(), ..pico }),
            ScaledLogits => in_f64(&LlamaConfig { logit_scale: LOGIT_SCALE, ..pico }),
            Capped => in_f64(&LlamaConfig { logit_cap: Some(CAP), ..pico }),
        }
    }
}

fn f32(value: f64) -> f64 {
    #[expect(clippy::cast_possible_truncation, reason = "rounding is what is meant")]
    let single = value as f32;
    f64::from(single)
}

fn hooked(situation: Situation, hooks: Hooks<()>) -> Box<dyn Subject> {
    wrap(situation.honest(), (), hooks)
}

/// Gradients of what is held in f32 pass through bf16 on their way.
fn coarse_gradients() -> Box<dyn Subject> {
    let gradient = |(): &mut (), _: &_, handed: &mut HandedOver| {
        for tensor in handed.tensors.iter_mut().filter(|tensor| tensor.dtype == Dtype::F32) {
            tensor.values.iter_mut().for_each(|value| *value = f64::from(bf16(*value)));
        }
    };
    hooked(SingleGains, Hooks { gradient, ..Hooks::IDENTITY })
}

/// A gradient that is declared to be f64 is added up in f32, as its neighbours rightly are.
fn single_accumulation() -> Box<dyn Subject> {
    let gradient = |(): &mut (), _: &_, handed: &mut HandedOver| {
        handed.tensor(EMBEDDING).values.iter_mut().for_each(|value| *value = f32(*value));
    };
    hooked(SingleGains, Hooks { gradient, ..Hooks::IDENTITY })
}

/// Masters that are written back from the f32 copy that was computed with.
fn single_masters() -> Box<dyn Subject> {
    let step = |(): &mut (), inner: &mut dyn Subject, batch: &_| {
        let report = (Hooks::<()>::IDENTITY.step)(&mut (), inner, batch)?;
        let mut masters = HandedOver::default();
        inner.optimizer_steps().unwrap().read(&mut masters)?;
        for mut tensor in masters.tensors {
            tensor.values.iter_mut().for_each(|value| *value = f32(*value));
            inner.parameter_loading().unwrap().set(&tensor.name, &tensor.values)?;
        }
        Ok(report)
    };
    hooked(DoubleMasters, Hooks { step, ..Hooks::IDENTITY })
}

/// The scale α/r is forgotten on the way back.
fn unscaled_adapters() -> Box<dyn Subject> {
    let gradient =
        |(): &mut (), _: &_, handed: &mut HandedOver| handed.scale(ADAPTERS.rank as f64 / ADAPTERS.alpha);
    hooked(Adapted, Hooks { gradient, ..Hooks::IDENTITY })
}

/// The scale of the embedding is forgotten on the way back.
fn unscaled_embedding() -> Box<dyn Subject> {
    let gradient = |(): &mut (), _: &_, handed: &mut HandedOver| {
        handed.tensor(EMBEDDING).scale(1.0 / (LlamaConfig::PICO.width as f64).sqrt());
    };
    hooked(Scaled, Hooks { gradient, ..Hooks::IDENTITY })
}

/// The scale of the logits is forgotten on the way to the head's weights.
fn unscaled_logits() -> Box<dyn Subject> {
    let gradient = |(): &mut (), _: &_, handed: &mut HandedOver| {
        handed.tensor("lm_head.weight").scale(1.0 / LOGIT_SCALE);
    };
    hooked(ScaledLogits, Hooks { gradient, ..Hooks::IDENTITY })
}

/// The backward pass computes the logits again, and leaves the cap out: its gradient is that of the same model
/// without one.
fn uncapped_backward() -> Box<dyn Subject> {
    let hooks = Hooks {
        reset: |twin: &mut Box<dyn Subject>, inner| {
            twin.reset()?;
            inner.reset()
        },
        configure: |twin, inner, spec| {
            twin.configure(spec)?;
            inner.configure(spec)
        },
        load: |twin, inner, parameters| {
            twin.parameter_loading().unwrap().load(parameters)?;
            inner.parameter_loading().unwrap().load(parameters)
        },
        set: |twin, inner, name, values| {
            twin.parameter_loading().unwrap().set(name, values)?;
            inner.parameter_loading().unwrap().set(name, values)
        },
        accumulate: |twin, inner, batch, handed| {
            twin.accumulate(batch, handed)?;
            inner.accumulate(batch, &mut Discard)
        },
        ..Hooks::IDENTITY
    };
    wrap(Capped.honest(), plain(), hooks)
}

/// What a trainer does with parameters that it only calls frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Thaw {
    /// Nothing: the control.
    None,
    /// Their gradient is in the norm by which the others are clipped.
    InTheNorm,
    /// The optimizer has them with a gradient of zero, and its decay moves them.
    Decay,
}

/// A trainer of all parameters that hides the frozen ones.
struct Hiding {
    thaw: Thaw,
    /// The frozen values that it began with, and those of now.
    initial: TensorSet,
    frozen: TensorSet,
    decay: f64,
}

impl Hiding {
    fn hides(&self, name: &str) -> bool {
        self.frozen.contains_key(name)
    }

    /// What the decay of a step leaves of the frozen values.
    fn decayed(&self, rate: f64) -> TensorSet {
        let factor = if self.thaw == Thaw::Decay { 1.0 - rate * self.decay } else { 1.0 };
        let of = |(name, tensor): (&String, &Tensor)| {
            let values = tensor.to_f64().iter().map(|value| factor * value).collect();
            (name.clone(), Tensor::new(tensor.shape().to_vec(), TensorValues::F64(values)).unwrap())
        };
        self.frozen.iter().map(of).collect()
    }
}

fn thawing(thaw: Thaw) -> Box<dyn Subject> {
    let mut all = Collect::default();
    let mut inner = plain();
    inner.optimizer_steps().unwrap().read(&mut all).unwrap();
    let mut frozen = all.into_tensors();
    frozen.retain(|name, _| feed_forward().contains(name));
    let hooks = Hooks {
        info: |hiding: &Hiding, info| {
            let named = |(name, tensor): (&String, &Tensor)| ParameterInfo::named(name, tensor.shape());
            let frozen = hiding.frozen.iter().map(named).collect();
            SubjectInfo { model: ModelInfo { frozen, ..ModelInfo::default() }, ..info }
        },
        parameters: |hiding, mut parameters| {
            parameters.retain(|parameter| !hiding.hides(&parameter.name));
            parameters
        },
        reset: |hiding, inner| {
            hiding.frozen = hiding.initial.clone();
            inner.reset()
        },
        gradient: |hiding, _, handed| handed.tensors.retain(|tensor| !hiding.hides(&tensor.name)),
        load: |hiding, inner, parameters| {
            let mut all = parameters.clone();
            all.extend(hiding.frozen.clone());
            inner.parameter_loading().unwrap().load(&all)
        },
        start: |hiding, inner, optimizer| {
            hiding.decay = match optimizer.rule {
                Rule::Sgd { weight_decay, .. } => weight_decay,
                Rule::Adam(adam) | Rule::AdamW(adam) => adam.weight_decay,
            };
            inner.optimizer_steps().unwrap().start(optimizer)
        },
        step: |hiding, inner, batch| {
            let mut report = inner.optimizer_steps().unwrap().step(batch)?;
            hiding.frozen = hiding.decayed(report.learning_rate);
            for (name, tensor) in &hiding.frozen {
                inner.parameter_loading().unwrap().set(name, &tensor.to_f64())?;
            }
            let norms = inner.parameters().into_iter().zip(&report.tensor_norms);
            let trained = norms.filter(|(parameter, _)| !hiding.hides(&parameter.name));
            report.tensor_norms = trained.map(|(_, norm)| *norm).collect();
            if hiding.thaw != Thaw::InTheNorm {
                report.grad_norm = report.tensor_norms.iter().map(|norm| norm * norm).sum::<f64>().sqrt();
            }
            Ok(report)
        },
        read: |hiding, inner, handed| {
            inner.optimizer_steps().unwrap().read(handed)?;
            handed.tensors.retain(|tensor| !hiding.hides(&tensor.name));
            Ok(())
        },
        ..Hooks::IDENTITY
    };
    wrap(inner, Hiding { thaw, initial: frozen.clone(), frozen, decay: 0.0 }, hooks)
}

/// A trainer with a bug.
type Make = fn() -> Box<dyn Subject>;

/// Smaller batches than usual: there are many subjects.
fn campaign(cases: u32) -> Campaign {
    let size = Size { ranks: 1..=3, micro_batches: 1..=3, sequences: 1..=4, positions: 1..=14 };
    Campaign { cases, size, ..Campaign::default() }
}

fn held_to(law: &str, cases: u32, mut subject: Box<dyn Subject>) -> Report {
    campaign(cases).run(Law::named(law).unwrap(), &mut *subject).unwrap()
}

/// What becomes of every law.
fn reports(cases: u32, subject: impl Fn() -> Box<dyn Subject> + Sync) -> Vec<Report> {
    let report = |law: &'static Law| {
        let report = campaign(cases).run(law, &mut *subject()).unwrap();
        assert!(!matches!(report.verdict, Verdict::Fail | Verdict::Errored), "{report}");
        report
    };
    LAWS.par_iter().map(report).collect()
}

#[test]
fn honest_trainers_break_no_law() {
    for situation in ALL {
        let reports = reports(3, || situation.honest());
        let passed = reports.iter().filter(|report| report.verdict == Verdict::Pass).count();
        assert!(passed >= 30, "{situation:?}: {passed} laws pass");
    }
}

/// One line for each law, with a letter for each situation: passed, unsupported or *not* decided.
#[test]
#[ignore = "thorough: two minutes; three cases of each law are in the other test"]
fn laws_decide_of_honest_trainers() {
    let columns = ALL.map(|situation| reports(12, || situation.honest()));
    let mut table = String::new();
    for (index, law) in LAWS.iter().enumerate() {
        let letter = |reports: &Vec<Report>| match reports[index].verdict {
            Verdict::Pass => 'p',
            Verdict::Unsupported => 'u',
            _ => 'n',
        };
        let letters: Vec<char> = columns.iter().map(letter).collect();
        writeln!(table, "{:<24} {}", law.id(), letters.iter().collect::<String>()).unwrap();
    }
    insta::assert_snapshot!(table);
}

#[test]
#[ignore = "thorough: a minute and a half, for when laws or profiles change"]
fn seen_through_less_they_break_none_either() {
    let profiles = [Profile::Bare, Profile::Parameters, Profile::Steps];
    for (index, situation) in ALL.into_iter().enumerate() {
        // Two of the three each: all three of all seven are a minute of processor time more.
        for profile in [profiles[index % 3], profiles[(index + 1) % 3]] {
            let claim = LossSpec::token_mean();
            let reports = reports(6, || profile.of(situation.honest(), &claim, Count::up_to(3)).unwrap());
            let passed = reports.iter().filter(|report| report.verdict == Verdict::Pass).count();
            assert!(passed >= 12, "{situation:?}, {profile}: {passed} laws pass");
        }
    }
}

#[test]
fn a_bug_of_each_dies() {
    let bugs: [(&str, &str, Make); 9] = [
        ("f32 gradients pass through bf16", "shares", coarse_gradients),
        ("an f64 gradient is added up in f32", "shares", single_accumulation),
        ("masters are rounded to f32", "sgd", single_masters),
        ("the norm counts frozen parameters", "clipping", || thawing(Thaw::InTheNorm)),
        ("decay moves frozen parameters", "adamw", || thawing(Thaw::Decay)),
        ("adapters without their scale going back", "loss-slope", unscaled_adapters),
        ("an embedding without its scale going back", "finite-differences", unscaled_embedding),
        ("a head without the logits' scale going back", "closed-form-gradient", unscaled_logits),
        ("a backward pass without the cap", "closed-form-gradient", uncapped_backward),
    ];
    bugs.par_iter().for_each(|(what, law, make)| {
        let report = held_to(law, 16, make());
        assert_eq!(report.verdict, Verdict::Fail, "{what}: {report}");
    });
    // Only loss and gradient are seen of this one, and its answers are no score.
    let bare = Profile::Bare.of(uncapped_backward(), &LossSpec::token_mean(), Count::up_to(3)).unwrap();
    assert_eq!(held_to("mean-zero-score", 16, bare).verdict, Verdict::Fail);
}

#[test]
fn what_is_hidden_and_not_moved_is_no_bug() {
    for law in ["sgd", "adamw", "schedule"] {
        let report = held_to(law, 16, thawing(Thaw::None));
        assert_eq!(report.verdict, Verdict::Pass, "{report}");
    }
}

/// A card that does not say what it should is convicted: the closed forms go by it.
#[test]
fn a_card_has_to_say_so() {
    for situation in [Frozen, ScaledLogits, Capped] {
        let info = |(): &(), info| SubjectInfo { model: ModelInfo::default(), ..info };
        let silent = hooked(situation, Hooks { info, ..Hooks::IDENTITY });
        let report = held_to("token-loss", 16, silent);
        assert_eq!(report.verdict, Verdict::Fail, "{situation:?}: {report}");
    }
    let parameters = |(): &(), mut parameters: Vec<ParameterInfo>| {
        for parameter in &mut parameters {
            parameter.dtype = None;
        }
        parameters
    };
    let silent = hooked(SingleGains, Hooks { parameters, ..Hooks::IDENTITY });
    let report = held_to("shares", 16, silent);
    assert_eq!(report.verdict, Verdict::Fail, "{report}");
}
