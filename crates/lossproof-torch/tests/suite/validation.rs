//! Validation of a corpus, beside training.

use crate::support::{accumulate, assert_close, global, loaded, picos, sequence};
use lossproof_spec::{Dtype, LossSpec};

#[test]
fn a_validation_is_the_mean_over_all_supervised_tokens() {
    let corpus = global(vec![vec![
        vec![sequence(1, 7, 0), sequence(2, 3, 1)],
        vec![sequence(3, 4, 4)],
        vec![sequence(4, 12, 5)],
    ]]);
    for config in picos() {
        for dtype in [Dtype::F32, Dtype::F64] {
            let mut subject = loaded(&config, dtype);
            let (seen, gradient) = accumulate(&mut subject, &LossSpec::sum(), &corpus);
            subject.configure(&LossSpec { label_smoothing: 0.2, z_loss: 0.1, ..LossSpec::sum() }).unwrap();
            let batches = corpus.micro_batches().cloned().collect::<Vec<_>>();
            let evaluated = subject.evaluation().unwrap().validate(&batches).unwrap();
            let tokens = 6 + 2 + 7;
            assert_eq!(evaluated.tokens, tokens);
            assert_eq!(seen.supervised_tokens, Some(tokens));
            let mean = seen.loss / tokens as f64;
            assert_close(&[evaluated.loss], &[mean], mean, config.name());
            assert_close(&[evaluated.perplexity], &[mean.exp()], mean.exp(), config.name());
            assert_eq!(accumulate(&mut subject, &LossSpec::sum(), &corpus), (seen, gradient));
        }
    }
}
