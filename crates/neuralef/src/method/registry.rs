//! The list of all methods. A new method is a file with an entry, and a line here.

use std::sync::Arc;

use super::Method;
use crate::spec::{Registered, Registry};

/// Every method, by name.
pub static METHODS: Registry<Arc<dyn Method>> = Registry {
    kind: "method",
    entries: &[
        super::neuralef::ENTRY,
        super::neuralef::BEST,
        super::nystrom_method::ENTRY,
        super::kernel_pca::ENTRY,
        super::fourier::ENTRY,
        super::positive::ENTRY,
    ],
};

impl Registered for dyn Method {
    const AS_WRITTEN: bool = true;

    fn registry() -> &'static Registry<Arc<Self>> {
        &METHODS
    }

    fn text_form(&self) -> String {
        self.text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_builds_prints_and_parses() {
        use crate::spec::{Sample, registry::assert_complete};
        assert_complete(&METHODS, &[], Sample::Missing, |method| method.text());
        let reduced = [("fourier", "features=64"), ("positive", "features=64")];
        assert_complete(&METHODS, &reduced, Sample::Missing, |method| method.text());
    }
}
