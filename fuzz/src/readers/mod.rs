//! The table of all readers of foreign bytes.

mod exports;
mod logs;
mod looped;
mod process;
mod tensors;
mod texts;

use crate::Made;

/// One line of the table.
#[derive(Clone, Copy)]
pub struct Entry {
    /// Its name, as a target of cargo-fuzz has it.
    pub name: &'static str,
    /// What it reads.
    pub reads: &'static str,
    /// The call that reads it.
    pub call: &'static str,
    /// Makes it, and the files around its input.
    pub make: fn() -> Made,
}

/// Every reader of foreign bytes.
pub const READERS: [Entry; 22] = [
    Entry { name: "card", reads: "an adapter's card", call: "Card::checked", make: process::card },
    Entry { name: "message", reads: "messages of an adapter", call: "Message::read", make: process::message },
    Entry {
        name: "answers",
        reads: "a recording of an adapter's answers",
        call: "Adapter::replayed",
        make: process::answers,
    },
    Entry { name: "tensors", reads: "safetensors", call: "safetensors::decode", make: tensors::plain },
    Entry {
        name: "widened",
        reads: "safetensors of any float type",
        call: "safetensors::decode_widened",
        make: tensors::widened,
    },
    Entry { name: "recorded", reads: "a recorded pass", call: "Recorded::parse", make: tensors::recorded },
    Entry { name: "dump", reads: "a dump of gradients", call: "Gradients::read", make: tensors::dump },
    Entry { name: "llm-c-model", reads: "a model of llm.c", call: "Sizes::of_model", make: tensors::llm_c },
    Entry { name: "case", reads: "a case file", call: "CaseFile::read", make: texts::case },
    Entry {
        name: "expectations",
        reads: "`lossproof.toml`",
        call: "Expectations::read",
        make: texts::expectations,
    },
    Entry { name: "trace", reads: "a loss trace", call: "Trace::read", make: logs::trace },
    Entry { name: "log", reads: "a log of any form", call: "lossproof_logs::read", make: logs::log },
    Entry {
        name: "checkpoint-manifest",
        reads: "a checkpoint's list of files",
        call: "Checkpoint::read",
        make: looped::manifest,
    },
    Entry {
        name: "checkpoint-run",
        reads: "a checkpoint's run",
        call: "Checkpoint::read",
        make: looped::run,
    },
    Entry {
        name: "checkpoint-tensors",
        reads: "a checkpoint's tensors",
        call: "Checkpoint::read",
        make: looped::tensors,
    },
    Entry {
        name: "loop-recording",
        reads: "a recording of a loop",
        call: "Recording::read",
        make: looped::recording,
    },
    Entry {
        name: "loop-recording-tensors",
        reads: "its tensors",
        call: "Recording::read",
        make: looped::recorded_tensors,
    },
    Entry {
        name: "export-manifest",
        reads: "an export's manifest",
        call: "lossproof_dumps::check",
        make: exports::manifest,
    },
    Entry {
        name: "export-batch",
        reads: "an export's batch",
        call: "lossproof_dumps::check",
        make: exports::batch_file,
    },
    Entry {
        name: "export-expected",
        reads: "what an export expects",
        call: "lossproof_dumps::check",
        make: exports::expected,
    },
    Entry {
        name: "export-tokens",
        reads: "an export's token gradients",
        call: "lossproof_dumps::check",
        make: exports::tokens,
    },
    Entry {
        name: "export-answer",
        reads: "a trainer's answer to an export",
        call: "lossproof_dumps::check",
        make: exports::answer,
    },
];

/// The line of a name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Entry> {
    READERS.iter().find(|entry| entry.name == name)
}
