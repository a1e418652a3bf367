//! Checkpoints of real runs: resumed anywhere they end as if never stopped, and what is broken is named.

use lossproof_loop::{
    Event, Length, Progress, Run, SeededSampler, Semantics, Settings,
    checkpoint::{self, Checkpoint, Disk, Environment, Problem, RealDisk},
};
use lossproof_spec::Dtype;
use lossproof_subject::{TrainerState, state_of};
use lossproof_tests::training_loop::{Under, corpus, settings};
use rayon::prelude::*;
use std::{
    cell::Cell,
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

fn environment(under: Under, dtype: Dtype) -> Environment {
    Environment {
        trainer: format!("{under:?}"),
        framework: "test".to_owned(),
        config: "gpt2-pico".to_owned(),
        dtype: dtype.to_string(),
        device: "cpu".to_owned(),
        threads: 1,
        text: "alice".to_owned(),
    }
}

/// A run up to so many events, from a checkpoint or from the beginning: its events, and a checkpoint of its end.
fn go(
    under: Under,
    dtype: Dtype,
    settings: &Settings,
    from: Option<&Checkpoint>,
    most: usize,
) -> (Vec<Event>, Checkpoint) {
    let corpus = corpus(settings);
    let sampler = SeededSampler::new(corpus.training_blocks().len(), settings);
    let mut trainer = under.trainer(dtype);
    let mut run = Run::new(&mut *trainer, &corpus, &sampler, settings).expect("the run of a test");
    if let Some(from) = from {
        run.trainer().restore(&from.state).expect("the run of a test");
        run.resume(from.progress);
    }
    let mut events = Vec::new();
    while events.len() < most
        && let Some(event) = run.advance().expect("the run of a test")
    {
        events.push(event);
    }
    let (progress, state) = (run.progress(), state_of(run.trainer()).expect("the run of a test"));
    let environment = environment(under, dtype);
    (events, Checkpoint { settings: *settings, environment, progress, state })
}

/// Thirty updates in three epochs with clipping, decay, warm-up and dropout.
fn thirty() -> Settings {
    Settings { length: Length::Updates(30), evaluate_every: 7, ..settings(Semantics::LAWFUL) }
}

/// The trainers whose runs are resumed.
const TRAINERS: [(Under, Dtype); 3] =
    [(Under::Reference, Dtype::F64), (Under::Libtorch, Dtype::F64), (Under::Libtorch, Dtype::F32)];

/// What a checkpoint is when it has been written and read.
fn through_a_file(kept: &Checkpoint) -> Checkpoint {
    let folder = tempfile::tempdir().expect("a folder");
    let written = kept.write(folder.path()).expect("it is written");
    let read = Checkpoint::read(&written).expect("it is a checkpoint");
    assert!(read == *kept, "what is written is read");
    read
}

/// After every event of the run: written, read by another trainer, and gone on with for one event more. What any of
/// the checkpoints lacks is lacking from there on.
#[test]
fn a_run_stopped_after_every_event_ends_as_if_it_had_never_stopped() {
    for (under, dtype) in TRAINERS {
        let settings = thirty();
        let (events, end) = go(under, dtype, &settings, None, usize::MAX);
        let updates = events.iter().filter(|event| matches!(event, Event::Update(_))).count();
        assert_eq!(updates, 30);
        let (mut told, mut kept) = go(under, dtype, &settings, None, 0);
        loop {
            let (next, later) = go(under, dtype, &settings, Some(&through_a_file(&kept)), 1);
            kept = later;
            if next.is_empty() {
                break;
            }
            told.extend(next);
            assert!(events.starts_with(&told), "{under:?} stopped after {} events", told.len() - 1);
        }
        assert!(told == events && kept == end, "{under:?}");
    }
}

/// A checkpoint of a run that was never stopped before, and all that comes after it in one go.
#[test]
fn a_run_resumed_once_ends_as_if_it_had_never_stopped() {
    for (under, dtype) in TRAINERS {
        let settings = thirty();
        let (events, end) = go(under, dtype, &settings, None, usize::MAX);
        // Before the first event, and at six places or more over the run.
        let stops: Vec<usize> = (0..events.len()).step_by(events.len() / 6).collect();
        stops.par_iter().for_each(|&stop| {
            let (before, kept) = go(under, dtype, &settings, None, stop);
            let (after, resumed) = go(under, dtype, &settings, Some(&through_a_file(&kept)), usize::MAX);
            assert!([before, after].concat() == events, "{under:?} stopped after {stop} events");
            assert!(resumed == end, "{under:?} stopped after {stop} events");
        });
    }
}

/// With updates that are skipped, so that the run takes more epochs than its updates need.
#[test]
fn a_run_with_skipped_updates_is_resumed_anywhere() {
    let objective = lossproof_loop::Objective::Masked;
    let settings = Settings {
        objective,
        block: 2,
        batch: 1,
        accumulate: 4,
        length: Length::Updates(400),
        ..settings(Semantics::LAWFUL)
    };
    let (events, end) = go(Under::Libtorch, Dtype::F64, &settings, None, usize::MAX);
    let epochs = events.iter().filter(|event| matches!(event, Event::Epoch(_))).count();
    let skipped =
        events.iter().filter(|event| matches!(event, Event::Update(update) if update.skipped)).count();
    assert!(epochs > 2 && skipped > 20, "{epochs} epochs, {skipped} skipped");
    // As text: the loss of a window without a token is no number, and equals nothing.
    let told = format!("{events:?}");
    let end = format!("{end:?}");
    let stops: Vec<usize> = (0..=events.len()).step_by(58).collect();
    stops.par_iter().for_each(|&stop| {
        let (before, kept) = go(Under::Libtorch, Dtype::F64, &settings, None, stop);
        let (after, resumed) = go(Under::Libtorch, Dtype::F64, &settings, Some(&kept), usize::MAX);
        assert!(format!("{:?}", [before, after].concat()) == told, "stopped after {stop} events");
        assert!(format!("{resumed:?}") == end, "stopped after {stop} events");
    });
}

#[test]
fn two_resumes_in_a_row_and_a_resume_of_a_finished_run_change_nothing() {
    let settings = thirty();
    let (events, end) = go(Under::Reference, Dtype::F64, &settings, None, usize::MAX);
    let (_, first) = go(Under::Reference, Dtype::F64, &settings, None, 5);
    let (_, second) = go(Under::Reference, Dtype::F64, &settings, Some(&first), 9);
    let (rest, resumed) = go(Under::Reference, Dtype::F64, &settings, Some(&second), usize::MAX);
    assert!(rest == events[14..]);
    assert!(resumed == end);
    let (nothing, same) = go(Under::Reference, Dtype::F64, &settings, Some(&end), usize::MAX);
    assert!(nothing.is_empty());
    assert!(same == end);
}

/// The script goes on where windows of the configured length would have led, and trains other samples than
/// it should.
#[test]
fn the_scripts_resume_is_not_the_run_it_resumes() {
    let settings = settings(Semantics::RUN_CLM_NO_TRAINER);
    let (events, end) = go(Under::Libtorch, Dtype::F64, &settings, None, usize::MAX);
    let in_second_epoch = events.iter().position(|event| matches!(event, Event::Epoch(_))).unwrap() + 3;
    let (_, kept) = go(Under::Libtorch, Dtype::F64, &settings, None, in_second_epoch);
    let (rest, resumed) = go(Under::Libtorch, Dtype::F64, &settings, Some(&kept), usize::MAX);
    assert!(rest != events[in_second_epoch..]);
    assert!(resumed.state != end.state);
}

#[test]
fn another_run_is_refused_with_everything_that_differs() {
    let settings = thirty();
    let (_, kept) = go(Under::Reference, Dtype::F64, &settings, None, 3);
    let environment = environment(Under::Reference, Dtype::F64);
    kept.check(&settings, &environment).unwrap();
    let others = [
        (Settings { accumulate: 2, ..settings }, "accumulate was 4, now 2"),
        (Settings { ranks: 2, ..settings }, "ranks was 1, now 2"),
        (Settings { batch: 6, ..settings }, "batch was 3, now 6"),
        (Settings { clip: None, ..settings }, "clip.max_norm was 0.5, now none"),
    ];
    for (other, said) in others {
        let refused = kept.check(&other, &environment).unwrap_err().to_string();
        assert!(refused.contains(said), "{refused}");
    }
    let elsewhere =
        Environment { dtype: "f32".to_owned(), threads: 2, text: "other".to_owned(), ..environment };
    let refused = kept.check(&settings, &elsewhere).unwrap_err();
    let names: Vec<&str> = refused.differences.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["dtype", "text", "threads"]);
}

/// A state that is not one of this trainer is refused, and the trainer stays as it is.
#[test]
fn a_foreign_state_is_refused_and_changes_nothing() {
    let settings = thirty();
    let (_, kept) = go(Under::Reference, Dtype::F64, &settings, None, 3);
    for under in Under::BOTH {
        let mut trainer = under.trainer(Dtype::F64);
        trainer.begin(&settings.rule, &BTreeSet::new(), &BTreeSet::new()).unwrap();
        let before = state_of(&mut *trainer).unwrap();
        let broken: [fn(&mut TrainerState); 3] = [
            |state| drop(state.parameters.remove("wte.weight")),
            |state| state.second_moments.clear(),
            |state| {
                let tensor = state.parameters["ln_f.bias"].clone();
                state.first_moments.insert("h.0.ln_1.weight.extra".to_owned(), tensor);
            },
        ];
        for damage in broken {
            let mut state = kept.state.clone();
            damage(&mut state);
            assert!(trainer.restore(&state).is_err());
            assert!(state_of(&mut *trainer).unwrap() == before);
        }
    }
}

/// A disk that is full after so many bytes, or fails at an operation.
struct FailingDisk {
    bytes: Cell<usize>,
    operations: Cell<usize>,
}

impl FailingDisk {
    fn operation(&self) -> io::Result<()> {
        let left = self.operations.get();
        self.operations.set(left.saturating_sub(1));
        if left == 0 { Err(io::ErrorKind::PermissionDenied.into()) } else { Ok(()) }
    }
}

impl Disk for FailingDisk {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.operation()?;
        RealDisk.create_folder(path)
    }

    fn write_file(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.operation()?;
        let left = self.bytes.get();
        if bytes.len() > left {
            fs::write(path, &bytes[..left])?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes.set(left - bytes.len());
        fs::write(path, bytes)
    }

    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        self.operation()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.operation()?;
        RealDisk.rename(from, to)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.operation()?;
        RealDisk.remove_folder(path)
    }
}

/// Small: no tensor but one, so that every byte can be the last.
fn small(updates: u64) -> Checkpoint {
    let (_, kept) = go(Under::Libtorch, Dtype::F64, &thirty(), None, 0);
    let parameters = kept.state.parameters.into_iter().filter(|(name, _)| name == "ln_f.bias").collect();
    let state = TrainerState { parameters, ..TrainerState::default() };
    Checkpoint { progress: Progress { updates, ..kept.progress }, state, ..kept }
}

/// Bytes of all files of a folder.
fn size(place: &Path) -> usize {
    let files = fs::read_dir(place)
        .expect("the run of a test")
        .map(|entry| entry.expect("the run of a test").metadata().expect("the run of a test").len());
    usize::try_from(files.sum::<u64>()).expect("the run of a test")
}

#[test]
fn a_disk_that_is_full_at_any_byte_leaves_the_checkpoint_before() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = [small(1), small(2)];
    let before = first.write(folder.path()).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let whole = size(&second.write(elsewhere.path()).unwrap());
    for bytes in 0..whole {
        let disk = FailingDisk { bytes: Cell::new(bytes), operations: Cell::new(usize::MAX) };
        let error = second.write_on(folder.path(), &disk).unwrap_err();
        assert!(matches!(error.problem, Problem::Io(_)), "{error:?}");
        assert_eq!(
            checkpoint::newest(folder.path()).unwrap().as_deref(),
            Some(&*before),
            "full after {bytes}"
        );
        assert_eq!(Checkpoint::read(&before).unwrap(), first);
    }
    let disk = FailingDisk { bytes: Cell::new(whole), operations: Cell::new(usize::MAX) };
    let after = second.write_on(folder.path(), &disk).unwrap();
    assert_eq!(checkpoint::newest(folder.path()).unwrap(), Some(after.clone()));
    assert_eq!(Checkpoint::read(&after).unwrap(), second);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing half-written is left");
}

#[test]
fn an_operation_that_fails_leaves_a_checkpoint_that_loads() {
    let second = small(2);
    for operations in 0.. {
        let folder = tempfile::tempdir().unwrap();
        let before = small(1).write(folder.path()).unwrap();
        let disk = FailingDisk { bytes: Cell::new(usize::MAX), operations: Cell::new(operations) };
        let written = second.write_on(folder.path(), &disk);
        let newest = checkpoint::newest(folder.path()).unwrap().unwrap();
        let read = Checkpoint::read(&newest).unwrap();
        if written.is_ok() {
            assert_eq!(read, second);
            assert!(operations > 5);
            return;
        }
        assert!(newest == before || read == second, "failed at operation {operations}");
    }
}

#[test]
fn broken_checkpoints_are_named_with_the_file() {
    let break_and_read = |damage: &dyn Fn(&Path)| {
        let folder = tempfile::tempdir().unwrap();
        let place = small(1).write(folder.path()).unwrap();
        damage(&place);
        let error = Checkpoint::read(&place).unwrap_err();
        (error.path.file_name().unwrap().to_string_lossy().into_owned(), error.problem)
    };
    let altered = |file: &'static str| {
        break_and_read(&move |place: &Path| {
            let mut bytes = fs::read(place.join(file)).unwrap();
            let last = bytes.len() - 2;
            bytes[last] ^= 1;
            fs::write(place.join(file), bytes).unwrap();
        })
    };
    for file in ["model.safetensors", "run.json"] {
        assert!(matches!(altered(file), (name, Problem::Altered { .. }) if name == file), "{file}");
        let (name, problem) = break_and_read(&move |place: &Path| {
            let bytes = fs::read(place.join(file)).unwrap();
            fs::write(place.join(file), &bytes[..bytes.len() / 2]).unwrap();
        });
        assert!(matches!(problem, Problem::Altered { .. }) && name == file);
        let (name, problem) = break_and_read(&move |place: &Path| fs::remove_file(place.join(file)).unwrap());
        assert!(matches!(problem, Problem::Io(_)) && name == file);
    }
    let manifest = |text: &'static str| {
        let (name, problem) =
            break_and_read(&move |place: &Path| fs::write(place.join("manifest.json"), text).unwrap());
        assert_eq!(name, "manifest.json");
        problem
    };
    assert!(matches!(manifest("{\"format\": 2, \"new\": 1}"), Problem::Version { found: 2, known: 1 }));
    assert!(matches!(manifest("{\"format\": 1, \"files\": {}}"), Problem::Missing { .. }));
    assert!(matches!(manifest("no json"), Problem::Json(_)));
    let elsewhere = "{\"format\": 1, \"files\": {\"../x\": {\"bytes\": 0, \"sha256\": \"\"}}}";
    assert!(matches!(manifest(elsewhere), Problem::Foreign { .. }));
}

/// What somebody else has put into the folder stays, and is no checkpoint.
#[test]
fn foreign_names_are_neither_read_nor_removed() {
    let folder = tempfile::tempdir().unwrap();
    let foreign = ["update-notes", "update-0-my-results", ".partial-mine"];
    for name in foreign {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    fs::write(folder.path().join("update-00.txt"), "notes").unwrap();
    let places: Vec<PathBuf> = (1..4).map(|updates| small(updates).write(folder.path()).unwrap()).collect();
    checkpoint::prune(folder.path(), 1).unwrap();
    assert_eq!(checkpoint::newest(folder.path()).unwrap().as_ref(), places.last());
    assert!(foreign.iter().all(|name| folder.path().join(name).is_dir()));
    assert!(folder.path().join("update-00.txt").is_file());
}

/// Another checkpoint at the same place is not written over, and a number that is none equals itself.
#[test]
fn a_checkpoint_is_never_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let mut kept = small(1);
    kept.progress.tracked.loss = f64::NAN;
    let place = kept.write(folder.path()).unwrap();
    assert_eq!(kept.write(folder.path()).unwrap(), place);
    kept.settings.seed += 1;
    let error = kept.write(folder.path()).unwrap_err();
    assert!(matches!(error.problem, Problem::Occupied), "{error:?}");
    assert_eq!(Checkpoint::read(&place).unwrap().settings.seed + 1, kept.settings.seed);
}

#[test]
fn a_folder_is_one_runs_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let lock = checkpoint::lock(folder.path()).unwrap();
    assert!(matches!(checkpoint::lock(folder.path()).unwrap_err().problem, Problem::Taken));
    drop(lock);
    checkpoint::lock(folder.path()).unwrap();
}

#[test]
fn only_as_many_checkpoints_are_kept_as_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let places: Vec<PathBuf> = (1..5).map(|updates| small(updates).write(folder.path()).unwrap()).collect();
    checkpoint::prune(folder.path(), 2).unwrap();
    let there: Vec<bool> = places.iter().map(|place| place.is_dir()).collect();
    assert_eq!(there, [false, false, true, true]);
}
