//! Threads for the size of the model.

/// Below this many parameters one operation is too short to be worth the barrier at its end.
const WORTH_SHARING: usize = 1 << 20;

/// Has libtorch run the operations of the calling thread on one thread until it is dropped.
///
/// libtorch splits loops of a few tens of thousands of elements over all cores, whose threads then wait for each other
/// in a spin. On two idle cores that makes gpt2-nano a third faster at best; beside other work, such as the
/// tests that run in parallel, it makes it several times slower. It also ties the last bits of a result to
/// the number of cores.
pub(crate) struct OneThread {
    before: i32,
}

impl OneThread {
    /// Such a guard when a model of this size is better off with it.
    pub(crate) fn for_model(parameters: usize) -> Option<Self> {
        (parameters < WORTH_SHARING).then(|| {
            let before = tch::get_num_threads();
            tch::set_num_threads(1);
            Self { before }
        })
    }
}

impl Drop for OneThread {
    fn drop(&mut self) {
        tch::set_num_threads(self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_models_get_one_thread_and_give_the_others_back() {
        tch::set_num_threads(3);
        let guard = OneThread::for_model(35_744);
        assert_eq!(tch::get_num_threads(), 1);
        drop(guard);
        assert_eq!(tch::get_num_threads(), 3);
        let none = OneThread::for_model(124_439_808);
        assert!(none.is_none() && tch::get_num_threads() == 3);
    }
}
