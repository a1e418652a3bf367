//! The numbered clauses of `docs/SPEC.md`, as data.

mod list;

pub use list::CLAUSES;

/// How binding a clause is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// A trainer that deviates is wrong.
    Must,
    /// A trainer that deviates needs a reason.
    Should,
}

/// One statement of `docs/SPEC.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clause {
    /// Number, `group.clause`.
    pub id: &'static str,
    /// How binding it is.
    pub level: Level,
    /// The statement, one sentence, as `docs/SPEC.md` has it.
    pub sentence: &'static str,
    /// Id of the law that executes it.
    pub law: &'static str,
}

const fn must(id: &'static str, law: &'static str, sentence: &'static str) -> Clause {
    Clause { id, level: Level::Must, sentence, law }
}

const fn should(id: &'static str, law: &'static str, sentence: &'static str) -> Clause {
    Clause { id, level: Level::Should, sentence, law }
}
