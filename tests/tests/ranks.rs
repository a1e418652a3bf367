//! Ranks apart from each other, held to the ranks of one process: the same bits, the same laws, and a rank
//! that does not go on is named. Here they are threads; `cargo xtask mpi` does the same with processes.

#![expect(clippy::print_stdout, reason = "patterns are printed as source, where somebody asks for them")]

use lossproof_diagnosis::{Diagnostician, PatternDiagnosis};
use lossproof_faults::RankFault;
use lossproof_laws::{Campaign, Examiner, LAWS, Law, Verdict};
use lossproof_loop::{
    Event, LoopParts, LoopSubject, Ranks, RanksInTurn, Remainder, Run, RunError, SeededSampler, Semantics,
    Settings,
};
use lossproof_mpi::{Order, ProcessRanks, RankedSubject, World, on_threads, serve};
use lossproof_spec::{
    Adam, Clip, Combine, Decayed, Dtype, EmptyPolicy, EpsilonPlacement, GlobalBatch, IGNORE_INDEX, LossSpec,
    MicroBatch, Optimizer, Rank, Reduction, Rule, Scope, Sequence,
};
use lossproof_subject::{
    Collect, GradientSink, LoadParameters, LoopTrainer, Observation, OptimizerSteps, ParameterInfo,
    RankShares, StepReport, Subject, SubjectError, SubjectInfo, Tensor, TensorSet, Unsupported, state_of,
};
use lossproof_tests::{
    pattern_rows,
    ranks::{LIMIT, beside_one},
    training_loop::{Under, corpus, settings},
};
use std::{collections::BTreeSet, fmt::Write as _, sync::Arc, thread, time::Duration};

/// What a subject answers to a batch.
type Answer = Result<(TensorSet, Observation), String>;

fn answer(subject: &mut dyn Subject, spec: &LossSpec, batch: &GlobalBatch) -> Answer {
    subject.configure(spec).map_err(|refused| refused.to_string())?;
    let mut gradients = Collect::default();
    let seen = subject.accumulate(batch, &mut gradients).map_err(|error| error.to_string())?;
    Ok((gradients.into_tensors(), seen))
}

/// The bits of a number. A NaN is one like any other, and so are two zeros.
fn bits(value: f64) -> u64 {
    if value.is_nan() { f64::NAN.to_bits() } else { (value + 0.0).to_bits() }
}

/// The bits of all tensors, by name and shape.
fn tensor_bits(tensors: &TensorSet) -> String {
    let one = |(name, tensor): (&String, &Tensor)| {
        format!(
            "{name} {:?} {:x?}\n",
            tensor.shape(),
            tensor.to_f64().into_iter().map(bits).collect::<Vec<_>>()
        )
    };
    tensors.iter().map(one).collect()
}

/// What answers are held together by: every number to the bit.
fn written(answer: &Answer) -> String {
    match answer {
        Err(error) => error.clone(),
        Ok((gradients, seen)) => {
            let losses: Vec<u64> = seen.token_losses.iter().flatten().copied().map(bits).collect();
            let loss = bits(seen.loss);
            let gradients = tensor_bits(gradients);
            format!("Ok {loss:x} {losses:x?} {:?}\n{gradients}", seen.supervised_tokens)
        }
    }
}

/// A sequence of so many supervised tokens, and one position more that is not.
fn sequence(tokens: usize, seed: u32) -> Sequence {
    let ids: Vec<u32> = (0..).take(tokens + 2).map(|at| (seed + 7 * at) % 64).collect();
    let labels = ids.iter().enumerate().map(|(at, &id)| if at < 2 { IGNORE_INDEX } else { i64::from(id) });
    let labels = labels.collect();
    Sequence::new(ids, labels).expect("a sequence")
}

/// Ranks that have so many micro-batches, of which each has so many supervised tokens, in one or two sequences.
fn batch(ranks: &[&[usize]]) -> GlobalBatch {
    let mut seed = 0;
    let mut micro_batch = |tokens: &usize| {
        seed += 5;
        let sequences = if *tokens > 3 {
            vec![sequence(*tokens - 3, seed), sequence(3, seed + 1)]
        } else {
            vec![sequence(*tokens, seed)]
        };
        MicroBatch::new(sequences).expect("a micro-batch")
    };
    let ranks =
        ranks.iter().map(|own| Rank::new(own.iter().map(&mut micro_batch).collect()).expect("a rank"));
    GlobalBatch::new(ranks.collect()).expect("a batch")
}

/// Every distribution of no tokens, few and many over one to four ranks; windows that are longer on one.
fn batches(most: usize) -> Vec<GlobalBatch> {
    let kinds: [&[usize]; 3] = [&[0], &[2], &[5, 0, 3]];
    let mut batches = Vec::new();
    for ranks in 1..=most {
        for code in 0..kinds.len().pow(u32::try_from(ranks).expect("few")) {
            let own: Vec<&[usize]> = (0..ranks)
                .map(|rank| kinds[code / kinds.len().pow(u32::try_from(rank).expect("few")) % 3])
                .collect();
            batches.push(batch(&own));
        }
    }
    batches
}

fn specs() -> Vec<LossSpec> {
    let mut specs = Vec::new();
    for (reduction, scope) in [
        (Reduction::TokenMean, Scope::Global),
        (Reduction::TokenMean, Scope::RankWindow),
        (Reduction::TokenMean, Scope::MicroBatch),
        (Reduction::SequenceMean, Scope::Global),
        (Reduction::Sum, Scope::Global),
    ] {
        for empty in
            [EmptyPolicy::ZeroCounted, EmptyPolicy::ZeroSkipped, EmptyPolicy::Nan, EmptyPolicy::Error]
        {
            for ranks in [Combine::Add, Combine::Average] {
                let spec = LossSpec { reduction, scope, empty, ranks, ..LossSpec::token_mean() };
                if spec.validate().is_ok() {
                    specs.push(spec);
                }
            }
        }
    }
    specs
}

/// A subject on so many ranks: the first asks, the others serve.
fn on_ranks<T: Send>(
    ranks: usize,
    order: Order,
    make: impl Fn(&World) -> Box<dyn Subject> + Sync,
    ask: impl Fn(&mut dyn Subject) -> T + Sync,
) -> T {
    let answers = on_threads(ranks, order, LIMIT, |world| {
        let mut own = make(&world);
        if world.rank() > 0 {
            serve(&world, &mut *own, LossSpec::token_mean()).expect("the first rank ends it");
            return None;
        }
        Some(ask(&mut RankedSubject::new(world, own, LossSpec::token_mean())))
    });
    answers.into_iter().flatten().next().expect("the first rank answers")
}

#[track_caller]
fn same_bits(under: Under, dtype: Dtype, ranks: usize, order: Order) {
    let (batches, specs) = (batches(ranks), specs());
    let cases = || {
        batches.iter().enumerate().flat_map(|(at, batch)| {
            // Every spec with every seventh batch: all of both are met, and not all pairs.
            let specs = specs.iter().enumerate().filter(move |(spec, _)| (at + spec) % 7 == 0);
            specs.map(move |(_, spec)| (spec, batch))
        })
    };
    let mut alone = under.trainer(dtype);
    let here: Vec<String> = cases().map(|(spec, batch)| written(&answer(&mut *alone, spec, batch))).collect();
    let make = |_: &World| -> Box<dyn Subject> { under.trainer(dtype) };
    let there = on_ranks(ranks, order, make, |subject| {
        cases().map(|(spec, batch)| written(&answer(subject, spec, batch))).collect::<Vec<_>>()
    });
    assert!(here.iter().any(|answer| answer.starts_with("Ok")));
    for ((here, there), (spec, batch)) in here.iter().zip(&there).zip(cases()) {
        assert!(here == there, "{spec} of {:?}:\n{here}\n{there}", batch.layout());
    }
}

#[test]
fn a_step_of_the_reference_on_ranks_has_the_bits_of_one_process() {
    same_bits(Under::Reference, Dtype::F64, 2, Order::Engine);
    same_bits(Under::Reference, Dtype::F32, 3, Order::Ranks);
    same_bits(Under::Reference, Dtype::F64, 4, Order::Ranks);
}

#[test]
fn a_step_of_libtorch_on_ranks_has_the_bits_of_one_process() {
    same_bits(Under::Libtorch, Dtype::F64, 1, Order::Engine);
    same_bits(Under::Libtorch, Dtype::F64, 2, Order::Engine);
    same_bits(Under::Libtorch, Dtype::F32, 4, Order::Ranks);
}

/// Optimizers whose steps are taken: with moments, decay, clipping, a warm-up, and a loss scale that f32 does not hold
/// in the second step.
fn optimizers() -> Vec<Optimizer> {
    let adam = Adam {
        beta_1: 0.9,
        beta_2: 0.95,
        epsilon: 1e-8,
        epsilon_placement: EpsilonPlacement::AfterCorrection,
        weight_decay: 0.1,
        decayed: Decayed::Matrices,
    };
    let clip = Some(Clip { max_norm: 0.5, epsilon: 1e-6 });
    vec![
        Optimizer { rule: Rule::Sgd { momentum: 0.9, weight_decay: 0.01 }, clip, ..Optimizer::sgd(0.1) },
        Optimizer { rule: Rule::AdamW(adam), clip, loss_scale: 1024.0, ..Optimizer::sgd(1e-2) },
        Optimizer { loss_scale: 2.0_f64.powi(130), ..Optimizer::sgd(0.1) },
    ]
}

/// What a subject answers to steps on these batches, one after the other, and the parameters at the end.
fn stepped(
    subject: &mut dyn Subject,
    spec: &LossSpec,
    optimizer: &Optimizer,
    batches: &[GlobalBatch],
) -> String {
    subject.reset().expect("a reset");
    subject.configure(spec).expect("it is claimed");
    let steps = subject.optimizer_steps().expect("a trainer with steps");
    steps.start(optimizer).expect("an optimizer that it has");
    let mut said = String::new();
    for batch in batches {
        match steps.step(batch) {
            Err(error) => said.push_str(&error.to_string()),
            Ok(StepReport { observation, learning_rate, grad_norm, tensor_norms, clip_factor, skipped }) => {
                let numbers = [observation.loss, learning_rate, grad_norm, clip_factor].map(bits);
                let norms: Vec<u64> = tensor_norms.into_iter().map(bits).collect();
                let _ = write!(said, "{numbers:x?} {norms:x?} {skipped}");
            }
        }
        said.push('\n');
    }
    let mut parameters = Collect::default();
    steps.read(&mut parameters).expect("parameters");
    format!("{said}{}", tensor_bits(&parameters.into_tensors()))
}

#[track_caller]
fn same_steps(under: Under, dtype: Dtype, ranks: usize, order: Order) {
    let kinds: [&[usize]; 3] = [&[5, 0, 3], &[2], &[0]];
    // The last rank has no part in the last step.
    let batches: Vec<GlobalBatch> = [ranks, ranks, ranks, ranks - 1]
        .into_iter()
        .enumerate()
        .map(|(step, ranks)| batch(&(0..ranks).map(|rank| kinds[(rank + step) % 3]).collect::<Vec<_>>()))
        .collect();
    let spec = LossSpec { empty: EmptyPolicy::ZeroSkipped, ..LossSpec::token_mean() };
    let average = LossSpec { ranks: Combine::Average, scope: Scope::MicroBatch, ..spec };
    let cases =
        || [spec, average].into_iter().flat_map(|spec| optimizers().into_iter().map(move |one| (spec, one)));
    let mut alone = under.trainer(dtype);
    let here: Vec<String> =
        cases().map(|(spec, optimizer)| stepped(&mut *alone, &spec, &optimizer, &batches)).collect();
    let make = |_: &World| -> Box<dyn Subject> { under.trainer(dtype) };
    let there = on_ranks(ranks, order, make, |subject| {
        cases().map(|(spec, optimizer)| stepped(subject, &spec, &optimizer, &batches)).collect::<Vec<_>>()
    });
    assert!(here.iter().any(|said| said.contains("] false\n")), "no step was taken");
    assert!(dtype == Dtype::F64 || here.iter().any(|said| said.contains("] true\n")), "no step was skipped");
    for ((here, there), (spec, optimizer)) in here.iter().zip(&there).zip(cases()) {
        assert!(here == there, "{spec} {optimizer:?}:\n{here}\n{there}");
    }
}

/// The gradient is reduced before it is measured, clipped and applied, and the loss scale is undone after that.
#[test]
fn an_optimizer_step_on_ranks_has_the_bits_of_one_process() {
    same_steps(Under::Reference, Dtype::F64, 2, Order::Engine);
    same_steps(Under::Reference, Dtype::F32, 3, Order::Ranks);
    same_steps(Under::Libtorch, Dtype::F64, 2, Order::Engine);
    same_steps(Under::Libtorch, Dtype::F32, 4, Order::Ranks);
}

/// The reference, whose second rank has other parameters.
fn with_other_parameters(world: &World) -> Box<dyn Subject> {
    let mut trainer = Under::Reference.trainer(Dtype::F64);
    if world.rank() == 1 {
        let gain = trainer.parameters().into_iter().find(|info| info.name == "ln_f.weight").expect("a gain");
        let values = vec![1.5; gain.shape.iter().product()];
        LoadParameters::set(&mut *trainer, &gain.name, &values).expect("it can be set");
    }
    trainer
}

/// What a step over two ranks ends with, and what comes of the gradient of the same batch after it.
fn step_and_gradient(make: impl Fn(&World) -> Box<dyn Subject> + Sync) -> (String, bool) {
    let batch = batch(&[&[5], &[2]]);
    on_ranks(2, Order::Ranks, make, |subject| {
        let steps = subject.optimizer_steps().expect("a trainer with steps");
        steps.start(&Optimizer::sgd(0.1)).expect("an optimizer that it has");
        let error = steps.step(&batch).expect_err("a rank is wrong");
        (error.to_string(), answer(subject, &LossSpec::token_mean(), &batch).is_ok())
    })
}

#[test]
fn ranks_that_have_other_parameters_after_a_step_are_named() {
    let (error, goes_on) = step_and_gradient(with_other_parameters);
    assert!(error.contains("rank 1 has other parameters after an update"), "{error}");
    assert!(goes_on);
}

/// A trainer that says it has an optimizer, and has none when it is to step.
struct Forgetful(Box<dyn Subject>);

impl Subject for Forgetful {
    fn info(&self) -> SubjectInfo {
        self.0.info()
    }

    fn parameters(&self) -> Vec<ParameterInfo> {
        self.0.parameters()
    }

    fn reset(&mut self) -> Result<(), SubjectError> {
        self.0.reset()
    }

    fn configure(&mut self, spec: &LossSpec) -> Result<(), Unsupported> {
        self.0.configure(spec)
    }

    fn accumulate(
        &mut self,
        batch: &GlobalBatch,
        gradients: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError> {
        self.0.accumulate(batch, gradients)
    }

    fn optimizer_steps(&mut self) -> Option<&mut dyn OptimizerSteps> {
        Some(self)
    }

    fn rank_shares(&mut self) -> Option<&mut dyn RankShares> {
        self.0.rank_shares()
    }
}

impl OptimizerSteps for Forgetful {
    fn start(&mut self, _: &Optimizer) -> Result<(), Unsupported> {
        Ok(())
    }

    fn step(&mut self, _: &GlobalBatch) -> Result<StepReport, SubjectError> {
        Err(SubjectError::failed("trainer", "no step of its own is asked for"))
    }

    fn read(&mut self, _: &mut dyn GradientSink) -> Result<(), SubjectError> {
        Ok(())
    }
}

#[test]
fn a_rank_that_fails_in_its_update_is_named() {
    for (wrong, named) in [(0, "no optimizer was started"), (1, "rank 1 failed: ")] {
        let (error, goes_on) = step_and_gradient(|world| {
            let trainer = Under::Reference.trainer(Dtype::F64);
            if world.rank() == wrong { Box::new(Forgetful(trainer)) } else { trainer }
        });
        assert!(error.contains(named) && error.contains("optimizer"), "{error}");
        assert!(goes_on, "rank {wrong} failed, and nothing more is answered");
    }
}

/// Beside steps, what takes no ranks is offered by none: a green of the first rank alone would be one of all.
#[test]
fn what_no_rank_has_a_part_in_is_not_offered() {
    let offered = on_ranks(
        2,
        Order::Ranks,
        |_| Under::Reference.trainer(Dtype::F64),
        |subject| (subject.upstream_weights().is_some(), subject.objectives().is_some()),
    );
    assert_eq!(offered, (false, false));
    assert!(Under::Reference.trainer(Dtype::F64).upstream_weights().is_some());
}

/// A rank computes its share with its own parameters: those of another rank have no part in it.
#[test]
fn ranks_compute_their_shares_apart() {
    let spec = LossSpec::token_mean();
    let (both, first) = (batch(&[&[5], &[2]]), batch(&[&[5], &[0]]));
    let there = on_ranks(2, Order::Ranks, with_other_parameters, |subject| {
        [&both, &first].map(|batch| written(&answer(subject, &spec, batch)))
    });
    let mut alone = Under::Reference.trainer(Dtype::F64);
    let here = [&both, &first].map(|batch| written(&answer(&mut *alone, &spec, batch)));
    assert!(here[0] != there[0], "the second rank's own parameters change nothing");
    assert!(here[1] == there[1], "a rank without tokens changes something");
}

/// A whole run over ranks, with the parameters and moments at its end.
fn whole_run(
    trainer: &mut dyn LoopTrainer,
    settings: &Settings,
    ranks: &mut dyn Ranks,
) -> Result<(Vec<Event>, String), RunError> {
    let corpus = corpus(settings);
    let sampler = SeededSampler::new(corpus.training_blocks().len(), settings);
    let mut run = Run::over(trainer, &corpus, &sampler, settings, &BTreeSet::new(), ranks)?;
    let events = run.finish()?;
    let state = state_of(run.trainer())?;
    let parts = [&state.parameters, &state.first_moments, &state.second_moments].map(tensor_bits);
    Ok((events, format!("{}\n{}", state.updates, parts.concat())))
}

/// With dropout on, a short last batch, a partial last window and ranks that run out.
fn of_ranks(ranks: usize, semantics: Semantics) -> Settings {
    Settings { ranks, remainder: Remainder::Kept, evaluate_every: 2, ..settings(semantics) }
}

#[track_caller]
fn same_run(under: Under, ranks: usize, order: Order, semantics: Semantics) {
    let settings = of_ranks(ranks, semantics);
    let here = whole_run(&mut *under.trainer(Dtype::F64), &settings, &mut RanksInTurn::default());
    let (events, state) = here.expect("the run of a test");
    let there = on_threads(ranks, order, LIMIT, |world| {
        let ranks = &mut ProcessRanks::new(world);
        whole_run(&mut *under.trainer(Dtype::F64), &settings, ranks).expect("the run of a test")
    });
    for (own_events, own_state) in there {
        assert!(own_events == events, "{ranks} ranks log other numbers");
        assert!(own_state == state, "{ranks} ranks end at other parameters");
    }
}

#[test]
fn a_run_on_ranks_has_the_bits_of_one_process() {
    for ranks in 1..=4 {
        same_run(Under::Reference, ranks, Order::Ranks, Semantics::LAWFUL);
    }
    same_run(Under::Libtorch, 3, Order::Ranks, Semantics::LAWFUL);
    same_run(Under::Libtorch, 2, Order::Ranks, Semantics::RUN_CLM_NO_TRAINER);
}

/// Two numbers have one sum, whoever adds them.
#[test]
fn on_two_ranks_any_order_has_the_same_bits() {
    same_run(Under::Reference, 2, Order::Engine, Semantics::LAWFUL);
    same_run(Under::Libtorch, 2, Order::Engine, Semantics::LAWFUL);
}

/// A rank that is not needed has the same numbers as the others.
#[test]
fn more_processes_than_ranks_change_nothing() {
    let settings = of_ranks(2, Semantics::LAWFUL);
    let runs = on_threads(3, Order::Ranks, LIMIT, |world| {
        let mut trainer = Under::Reference.trainer(Dtype::F64);
        whole_run(&mut *trainer, &settings, &mut ProcessRanks::new(world)).expect("the run of a test")
    });
    let mut trainer = Under::Reference.trainer(Dtype::F64);
    let (events, state) =
        whole_run(&mut *trainer, &settings, &mut RanksInTurn::default()).expect("the run of a test");
    for (own_events, own_state) in runs {
        assert!(own_events == events && own_state == state);
    }
    let fewer = on_threads(1, Order::Ranks, LIMIT, |world| {
        let mut trainer = Under::Reference.trainer(Dtype::F64);
        whole_run(&mut *trainer, &settings, &mut ProcessRanks::new(world)).map(drop)
    });
    assert!(matches!(fewer[..], [Err(RunError::TooManyRanks { ranks: 2, most: 1 })]));
}

fn under_the_loop(under: Under, world: &World) -> Box<dyn Subject> {
    let ranks = Box::new(ProcessRanks::new(world.clone()));
    let trainer = under.trainer(Dtype::F64);
    Box::new(
        LoopSubject::over(trainer, LossSpec::token_mean(), LoopParts::LAWFUL, ranks).expect("it claims it"),
    )
}

/// The laws of ranks, of optimizer steps, of validations, of training states and of loops.
const GROUPS: [&str; 5] = ["5.", "7.", "8.", "9.", "10."];

#[track_caller]
fn laws_hold(ranks: usize, training: bool, cases: u32) {
    let laws = LAWS.iter().filter(|law| {
        let own = law.clauses().any(|clause| GROUPS.iter().any(|group| clause.id.starts_with(group)));
        own && law.needs_training() == training
    });
    let make = |world: &World| -> Box<dyn Subject> {
        if training { under_the_loop(Under::Libtorch, world) } else { Under::Reference.trainer(Dtype::F64) }
    };
    let campaign = Campaign { cases, control: false, ..Campaign::default() };
    let reports = on_ranks(ranks, Order::Engine, make, |subject| {
        let report = |law| {
            let report = campaign.run(law, subject).expect("no files");
            (report.law.id(), report.verdict, report.to_string())
        };
        laws.clone().map(report).collect::<Vec<_>>()
    });
    for (law, verdict, report) in &reports {
        // A case with one rank tells nothing of ranks.
        let told = if ranks == 1 {
            &[Verdict::Pass, Verdict::Unsupported, Verdict::Unchecked][..]
        } else {
            &[Verdict::Pass, Verdict::Unsupported]
        };
        assert!(told.contains(verdict), "{law} on {ranks} ranks: {report}");
    }
    let passed = reports.iter().filter(|(_, verdict, _)| *verdict == Verdict::Pass).count();
    assert!(2 * passed > reports.len(), "{passed} of {} laws pass on {ranks} ranks", reports.len());
}

#[test]
fn every_law_of_ranks_holds_where_they_are_apart() {
    for ranks in 1..=4 {
        laws_hold(ranks, false, 12);
    }
}

#[test]
fn every_law_of_a_training_holds_where_ranks_are_apart() {
    for ranks in 1..=4 {
        laws_hold(ranks, true, 3);
    }
}

/// A trainer that fails on one rank alone.
fn fails_on(rank: usize) -> Vec<String> {
    let settings = of_ranks(3, Semantics::LAWFUL);
    on_threads(3, Order::Engine, LIMIT, |world| {
        let mut trainer = Under::Reference.trainer(Dtype::F64);
        let own = world.rank();
        let failed = if own == rank {
            Err(SubjectError::failed("trainer", "the device has no memory left"))
        } else {
            whole_run(&mut *trainer, &settings, &mut ProcessRanks::new(world.clone()))
                .map_err(|error| SubjectError::failed("run", error))
        };
        let error = failed.map(drop).expect_err("a rank has failed");
        world.end(&lossproof_mpi::Failure::of(&error));
        error.to_string()
    })
}

#[test]
fn a_rank_that_fails_is_named_on_all_of_them() {
    for rank in 0..3 {
        for (own, error) in fails_on(rank).iter().enumerate().filter(|(own, _)| *own != rank) {
            let named = format!("rank {rank} failed: the device has no memory left");
            assert!(error.contains(&named), "on rank {own}: {error}");
        }
    }
}

/// What the others say of a rank that misbehaves.
fn said_of(wrong: usize, misbehave: impl FnOnce(&mut dyn lossproof_mpi::Engine) + Send) -> Vec<String> {
    let settings = of_ranks(3, Semantics::LAWFUL);
    beside_one(3, wrong, Duration::from_millis(1500), misbehave, |world| {
        let mut trainer = Under::Reference.trainer(Dtype::F64);
        let run = whole_run(&mut *trainer, &settings, &mut ProcessRanks::new(world));
        run.map(drop).expect_err("a rank is lost").to_string()
    })
}

#[test]
fn a_rank_that_hangs_is_named_within_the_time() {
    for wrong in 0..3 {
        // As long as the others wait at most.
        let said = said_of(wrong, |_| thread::sleep(Duration::from_secs(8)));
        for error in said {
            assert!(error.starts_with(&format!("rank {wrong} did not come to the token counts")), "{error}");
        }
    }
}

#[test]
fn a_rank_that_is_gone_is_named() {
    for wrong in 1..3 {
        for error in said_of(wrong, |_| {}) {
            assert!(error == format!("rank {wrong} is not there any more"), "{error}");
        }
    }
}

#[test]
fn a_rank_that_sends_garbage_is_named() {
    for wrong in 0..3 {
        let said = said_of(wrong, |engine| {
            let own = engine.rank();
            for to in (0..3).filter(|to| *to != own) {
                let _ = engine.send(to, b"\xff\xfe\n0123".to_vec(), LIMIT);
            }
            thread::sleep(Duration::from_secs(8));
        });
        for error in said {
            assert!(error.starts_with(&format!("rank {wrong} sent what is nothing")), "{error}");
        }
    }
}

/// Numbers in the form that ranks send them in are looked at, too.
#[test]
fn a_rank_that_counts_garbage_is_named() {
    let came = b"{\"question\":0,\"said\":{\"came\":\"the token counts of a window\"}}\n";
    let half = 0.5_f64.to_le_bytes();
    let seven = 7.0_f64.to_le_bytes();
    let cases = [
        (1, half.to_vec(), "counts its tokens as [0.5]"),
        (2, [seven, seven].concat(), "counts its tokens as [7.0, 7.0]"),
        (1, (-7.0_f64).to_le_bytes().to_vec(), "counts its tokens as [-7.0]"),
        (2, f64::INFINITY.to_le_bytes().to_vec(), "counts its tokens as [inf]"),
        (2, Vec::new(), "counts its tokens as []"),
        (1, seven[..5].to_vec(), "sent what is nothing that a rank says: 5 bytes, where each number has 8"),
    ];
    // They wait for each other and hardly compute.
    thread::scope(|scope| {
        for (wrong, counted, due) in &cases {
            scope.spawn(move || {
                let said = said_of(*wrong, |engine| {
                    let _ = engine.send(0, [came.as_slice(), counted].concat(), LIMIT);
                    thread::sleep(Duration::from_secs(8));
                });
                for error in said {
                    assert_eq!(error, format!("rank {wrong} {due}"));
                }
            });
        }
    });
}

/// Each bug of ranks on three of them, and what is said of it.
fn diagnoses() -> Vec<(&'static RankFault, PatternDiagnosis)> {
    let smoothed = LossSpec { label_smoothing: 0.1, ..LossSpec::token_mean() };
    let faults: Vec<&RankFault> = RankFault::all().collect();
    let diagnosis = |fault: &&'static RankFault| {
        let make = |world: &World| -> Box<dyn Subject> {
            let (rank, ranks) = (world.rank(), Box::new(ProcessRanks::new(world.clone())));
            let trainer = Under::Reference.trainer(Dtype::F64);
            Box::new(fault.inject(trainer, smoothed, ranks, rank).expect("the loss is claimed"))
        };
        (
            *fault,
            on_ranks(3, Order::Engine, make, |subject| PatternDiagnosis::of_ranks(subject).expect("a loop")),
        )
    };
    // One after the other: ranks are threads, and those of a pool that waits for them could not work for them.
    faults.iter().map(diagnosis).collect()
}

#[test]
fn nothing_is_wrong_with_our_ranks() {
    let make = |world: &World| under_the_loop(Under::Reference, world);
    let diagnosis =
        on_ranks(3, Order::Engine, make, |subject| PatternDiagnosis::of_ranks(subject).expect("a loop"));
    assert!(diagnosis.is_sound() && diagnosis.unseen.is_empty(), "{diagnosis}");
}

/// The failure of a law over ranks lists the bugs of ranks that fail in the same.
#[test]
fn a_failing_law_over_ranks_tells_the_bugs_of_ranks_that_fail_in_the_same() {
    let fault =
        RankFault::all().find(|fault| fault.bug.id == "clipped-before-reduction").expect("it is listed");
    let make = |world: &World| -> Box<dyn Subject> {
        let (rank, ranks) = (world.rank(), Box::new(ProcessRanks::new(world.clone())));
        let trainer = Under::Reference.trainer(Dtype::F64);
        Box::new(fault.inject(trainer, LossSpec::token_mean(), ranks, rank).expect("the loss is claimed"))
    };
    let said = on_ranks(3, Order::Engine, make, |subject| {
        let examiner = Some(Arc::new(Diagnostician::default().of_ranks_apart()) as Arc<dyn Examiner>);
        let campaign = Campaign { cases: 24, examiner, ..Campaign::default() };
        let law = Law::named("training-clipping").expect("there is this law");
        campaign.run(law, subject).expect("no files").to_string()
    });
    for line in [
        "\nlooks like: the same laws fail as under one known bug of a training loop or of ranks that are apart,",
        "\n  clipped-before-reduction: each rank clips its own gradient",
        "\nchange: if it is clipped-before-reduction: ",
    ] {
        assert!(said.contains(line), "{line:?} is not in {said}");
    }
}

/// What `crates/lossproof-diagnosis/src/patterns/ranks.rs` is to have.
#[test]
#[ignore = "prints source: for when laws of a training change"]
fn patterns() {
    println!("{}", pattern_rows(diagnoses().into_iter().map(|(fault, found)| (fault.bug.id, found.pattern))));
}
