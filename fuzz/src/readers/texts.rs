//! Files that a person keeps: cases, and expectations.

use crate::{
    Made, Reader,
    reader::{folder, told},
};
use lossproof_cases::{Case, CaseFile, Scale};
use lossproof_laws::expectations::Expectations;
use lossproof_spec::{GlobalBatch, LossSpec, MicroBatch, Rank, Sequence, SequenceFields};
use std::{error::Error, fs, path::Path};

/// The law that the kept case broke.
const LAW: &str = "loss-scaling";

/// A batch with every field: two ranks, padding, packing, and a label that is ignored.
pub(super) fn batch() -> Result<GlobalBatch, Box<dyn Error>> {
    let packed = Sequence::from_fields(SequenceFields {
        input_ids: vec![1, 2, 3, 4, 0],
        labels: vec![-100, 2, -100, 4, -100],
        segment_ids: vec![1, 1, 2, 2, 0],
        position_ids: vec![0, 1, 0, 1, 2],
        targets: Vec::new(),
    })?;
    let plain = Sequence::new(vec![5, 6, 7], vec![-100, 6, 7])?;
    let one = Rank::new(vec![MicroBatch::new(vec![packed, plain.clone()])?])?;
    let other = Rank::new(vec![MicroBatch::new(vec![plain])?])?;
    Ok(GlobalBatch::new(vec![one, other])?)
}

/// A case file, as it is written: where, and what stands in it.
fn case_in(folder: &Path, batch: GlobalBatch, spec: LossSpec) -> Result<(String, Vec<u8>), Box<dyn Error>> {
    let case = Case { batch, spec, scale: Scale::Probe, upstream: vec![1.0, -0.5], seed: u64::MAX };
    let file = CaseFile { law: LAW.to_owned(), found: "it was 2".to_owned(), case };
    let path = file.write(folder)?;
    let relative = path.strip_prefix(folder)?.display().to_string();
    Ok((relative, fs::read(path)?))
}

/// A sequence of one position fills three lists beside the two that it must have, and a token of two bytes is
/// 24.
pub(super) fn case() -> Made {
    let folder = folder()?;
    let short = GlobalBatch::single(Sequence::new(vec![0, 0], vec![0, 0])?);
    let spec = LossSpec { z_loss: 1e-4, label_smoothing: 0.1, ..LossSpec::sequence_mean() };
    let valid =
        vec![case_in(folder.path(), batch()?, spec)?.1, case_in(folder.path(), short, LossSpec::sum())?.1];
    Ok(Reader::of_file(folder, "case.json", 32, valid, |path| told(CaseFile::read(path))))
}

/// A document of TOML is a tree with the place of everything in it before anything is read of it, and every stray
/// bracket of one byte is an error of its own, in a list that grows by doubling.
const OF_TOML: usize = 1024;

pub(super) fn expectations() -> Made {
    let folder = folder()?;
    let (case, _) = case_in(folder.path(), batch()?, LossSpec::token_mean())?;
    let declared = format!(
        "# A comment.\n[subject.\"my trainer\"]\ndecides = [\n    \"sum\",\n]\n\n[[subject.\"my trainer\".fails]]\n\
         law = \"{LAW}\"\nreason = \"issue 7\"\ncase = \"{case}\"\nerror = \"not finite\"\n\
         units = [{{ name = \"loss\", ratio = 1.5 }}, {{ name = \"fact\", deviation = 1e-3 }}]\n\n[subject.other]\n"
    );
    let inline = format!(
        "subject = {{ a = {{ fails = [{{ law = '{LAW}', reason = \"\"\"r\"\"\", case = '{case}', error = 'e' }}] }} }}\n"
    );
    let valid = vec![
        declared.into_bytes(),
        inline.into_bytes(),
        b"subject.a.decides = ['sum']\n".to_vec(),
        Vec::new(),
    ];
    Ok(Reader::of_file(folder, "lossproof.toml", OF_TOML, valid, |path| told(Expectations::read(path))))
}
