//! The list of all optimisers. A new optimiser is a file with an entry, and a line here.

use std::sync::Arc;

use super::OptimizerRule;
use crate::spec::{Registered, Registry};

/// Every optimiser by name.
pub static OPTIMIZERS: Registry<Arc<dyn OptimizerRule>> = Registry {
    kind: "optimizer",
    entries: &[
        super::adam::ENTRY,
        super::adamw::ENTRY,
        super::rmsprop::ENTRY,
        super::sgd::ENTRY,
        super::soap::ENTRY,
    ],
};

impl Registered for dyn OptimizerRule {
    fn registry() -> &'static Registry<Arc<Self>> {
        &OPTIMIZERS
    }

    fn text_form(&self) -> String {
        self.text()
    }
}
